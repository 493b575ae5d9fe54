"""The reward `reward_model`."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Literal

from pydantic import Field

from finery.core.refs import ModelRef
from finery.core.rundir import Run
from finery.core.spec import ADVANCED, Spec
from finery.training.rewards import Failed, OpenReward, registry

_JUDGE: Final = "finery.models.scoring"
"""By name: it needs torch, and the platform's own processes read this folder too."""


class RewardModelParams(Spec):
    model: ModelRef = Field(min_length=1, max_length=500)
    """A model with a scalar head: a checkpoint of a job with `algorithm: reward` (`job:41/last`, `job:rm/last` within
    one pipeline), a local folder, or a name as in `model.base`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8", "nf4"] = "auto"
    """Number format of its weights in memory: `auto` is bfloat16 where the hardware computes in it, else float32;
    `int8` (arXiv:2208.07339) and `nf4` (4 bits, arXiv:2305.14314) are quantized while they are loaded."""
    scale: float = 1.0
    """The reward is scale * score + shift."""
    shift: float = 0.0
    """Added after scaling."""
    batch_size: int = Field(16, ge=1, json_schema_extra=ADVANCED)
    """Completions per forward pass. Those of like length go together."""
    max_tokens: int = Field(2048, ge=2, json_schema_extra=ADVANCED)
    """Longer conversations are cut on the left."""


@registry.register("reward_model", params=RewardModelParams)
class RewardModel(OpenReward):
    """Score that a trained reward model gives to prompt and completion together."""

    def __init__(self, params: RewardModelParams, run: Run):
        self._params = params
        self._judge = import_module(_JUDGE).RewardModelScorer(
            run.input(params.model),
            params.model,
            dtype=params.dtype,
            batch_size=params.batch_size,
            max_tokens=params.max_tokens,
        )
        run.note(
            f"reward model {params.model} is loaded as {params.dtype}: {self._judge.num_bytes / 1e6:.1f} MB of weights"
        )

    def score(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | Failed]:
        prompts = [row["prompt"] for row in rows]
        scores = self._judge.score(prompts, completions)
        return [self._params.scale * score + self._params.shift for score in scores]

    def sizes(self) -> dict[str, float]:
        return {"reward_model_bytes": float(self._judge.num_bytes)}

    def close(self) -> None:
        del self._judge
