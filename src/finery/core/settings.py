"""Settings of this installation: environment variables with the prefix FINERY_, nothing else.

Passed in where they are needed; never read from a module-level object.
"""

import sys
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from finery.core.clusters import ClusterConfig

DEFAULT_PORT = 8321


class Settings(BaseSettings):
    """Every knob of the platform's own processes."""

    model_config = SettingsConfigDict(env_prefix="FINERY_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    home: Path = Field(default_factory=lambda: Path.home() / ".finery")
    """All state lies under this folder: database, runs, objects, models, token."""
    database_url: str = ""
    """SQLAlchemy URL; empty is SQLite under `home`. PostgreSQL: postgresql+psycopg://user@host/name."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback is a decision: put a reverse proxy with TLS before it."""
    port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    allowed_hosts: str = ""
    """Comma-separated host names by which browsers may reach the server, besides localhost."""
    server: str = ""
    """URL of the server that the CLI talks to; empty is the one that runs on this `home`."""
    token: str = ""
    """Token that the CLI sends; empty reads the file `token` in `home`."""
    secret_key: SecretStr = SecretStr("")
    """Fernet key that secrets are encrypted with; empty keeps one in the file `secret.key` in `home`."""
    max_upload_bytes: int = Field(20 * 2**30, gt=0)
    """Largest file that can be uploaded."""
    max_running_jobs: int = Field(1, ge=1)
    """Jobs that run at once on this machine."""
    max_running_evaluations: int = Field(1, ge=1)
    """Evaluations of checkpoints that run at once beside the jobs, which they never take the place of."""
    chat_models: int = Field(2, ge=1)
    """Models that the server keeps loaded for chat at once; the one used longest ago makes room for the next."""
    chat_idle_minutes: float = Field(10.0, gt=0)
    """A model that nobody has talked to for so long is unloaded."""
    allow_code: bool = True
    """Whether jobs may bring code of their own, such as the reward `python_file`. It runs with this user's rights, so
    switch it off where others than the owner of the machine hold the token."""
    public_url: str = Field("", pattern=r"^(https?://[^\s?#]+)?$")
    """Where people reach the web UI, such as https://finery.example.org; messages to them link there. Empty links
    nowhere."""
    allow_private_addresses: bool = False
    """Whether messages may be sent to addresses of this machine and its network, such as a mail server within a
    company."""
    verl_python: str = ""
    """Interpreter of the environment that has verl; empty is `.venv-verl` beside this one."""
    ray_clusters: dict[str, ClusterConfig] = {}
    """Ray clusters by the names that `resources.cluster` has for them, as a JSON object:
    {"lab": {"address": "http://head:8265", "token_file": "/etc/finery/lab.token"}}."""

    @property
    def verl_interpreter(self) -> Path:
        """The interpreter of the environment that has verl, whether it is there or not."""
        return Path(self.verl_python or Path(sys.prefix).parent / ".venv-verl" / "bin" / "python")

    @property
    def url(self) -> str:
        """Where the database is."""
        return self.database_url or f"sqlite:///{self.home / 'finery.db'}"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def objects(self) -> Path:
        return self.home / "objects"

    @property
    def token_file(self) -> Path:
        return self.home / "token"

    @property
    def metrics_token_file(self) -> Path:
        """Of the token that reads /metrics and nothing else."""
        return self.home / "metrics.token"

    @property
    def server_file(self) -> Path:
        """URL of the server that runs on this home."""
        return self.home / "server.json"
