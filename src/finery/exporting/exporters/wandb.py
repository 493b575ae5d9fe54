"""The exporter `wandb`: a run of Weights & Biases on disk. Always offline; `wandb sync` sends it where you say."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from finery.core.errors import Unavailable
from finery.core.spec import Spec
from finery.exporting.exporters import RunFacts, registry

_FLUSH_SECONDS: Final = 1.0
"""What wandb was told before that is on the disk when the run is killed."""
_OTHERS: Final = ("WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_DISABLED")
"""What a run of somebody else has left in the environment."""


class WandbParams(Spec):
    project: str = Field("finery", min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")
    """Project that the run is to belong to."""


@registry.register("wandb", params=WandbParams)
class Wandb:
    """An offline run of Weights & Biases; its folder is what `wandb sync` takes."""

    def __init__(self, folder: Path, facts: RunFacts, params: WandbParams):
        _shut_in(folder)
        try:
            import wandb  # noqa: PLC0415 - heavy and optional
        except ImportError as error:
            raise Unavailable(
                f"the package wandb is not installed here ({error}): pip install 'finery[wandb]'"
            ) from error
        self._run: Any = wandb.init(
            mode="offline",
            reinit="create_new",
            dir=str(folder),
            project=params.project,
            name=facts.name,
            group=f"job-{facts.job_id}",
            config=dict(facts.config),
            tags=[tag[:64] for tag in facts.tags if tag],
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_transaction_log_flush_interval=_FLUSH_SECONDS,
            ),
        )

    def write(self, step: int, values: Mapping[str, float], *, time: float) -> None:
        """Hand the metrics to wandb's own process."""
        self._run.log({**values, "_timestamp": time}, step=step)

    def close(self, *, is_ok: bool) -> None:
        """Wait until wandb's process has written all and ended the run."""
        self._run.finish(exit_code=0 if is_ok else 1)


def _shut_in(folder: Path) -> None:
    """Keep wandb in its folder and off the network: its process inherits this environment."""
    for name in _OTHERS:
        os.environ.pop(name, None)
    places = {f"WANDB_{place}_DIR": str(folder / place.lower()) for place in ("CACHE", "CONFIG", "DATA", "ARTIFACT")}
    os.environ.update({"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", **places})
