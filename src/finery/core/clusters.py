"""Ray clusters on which the engine verl runs: those that this installation knows, and the one that a job is given.

Pure: nothing here speaks with a cluster.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from finery.core.spec import Spec

TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
"""Environment variable in which a launcher is handed a cluster's token."""


class ClusterConfig(Spec):
    """A Ray cluster that somebody else runs, under its name in FINERY_RAY_CLUSTERS."""

    address: str = Field(pattern=r"^https?://[^\s?#/]+/?$")
    """Of its dashboard, which serves the Jobs API: http://head:8265."""
    token_file: str = ""
    """File that holds the cluster's token; empty where it asks for none."""
    token_secret: str = ""
    """Name of the stored secret that holds the token, instead of a file."""
    python: str = ""
    """Interpreter with verl on the cluster's nodes; empty is the same path as here."""
    shared: bool = True
    """FINERY_HOME lies at the same path on every node, on a file system that they share with this machine."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token_file and self.token_secret:
            raise ValueError("token_file and token_secret both name a token; give one of them")
        if not self.shared:
            raise ValueError(
                "shared: false is not supported: spec.json, checkpoints and events are files that both sides read; "
                "mount FINERY_HOME at the same path on every node and set shared: true"
            )
        return self


class ClusterTarget(BaseModel):
    """Where an attempt runs: a configured cluster, or one of its own on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = ""
    """Of the configured cluster; empty is one that is started for the attempt and ends with it."""
    address: str = ""
    """Of the configured cluster's Jobs API."""
    python: str
    """Interpreter with verl, on the nodes where the attempt runs."""
    num_nodes: int = Field(1, ge=1)
    num_accelerators: int = Field(1, ge=1)
    """GPUs (or NPUs) that the job takes on all nodes together; on a CPU as many are pretended."""
    accelerator: str = "GPU"
    """What Ray calls them."""


def read_token(config: ClusterConfig) -> str:
    """The token in the cluster's `token_file`; empty where it names none. Raises `OSError`."""
    return Path(config.token_file).expanduser().read_text().strip() if config.token_file else ""
