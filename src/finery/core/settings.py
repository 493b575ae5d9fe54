"""Settings of this installation: environment variables with the prefix FINERY_, nothing else.

Passed in where they are needed; never read from a module-level object.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from pydantic import Field, ModelWrapValidatorHandler, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from finery.core import environment, folders
from finery.core.clusters import ClusterConfig
from finery.core.errors import InvalidSpec, Problem

DEFAULT_PORT = 8321
_PREFIX: Final = "FINERY_"


class Settings(BaseSettings):
    """Every knob of the platform's own processes.

    Raises:
        InvalidSpec: a variable has a wrong value; the message names it and what is expected.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, use_attribute_docstrings=True, extra="ignore")

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
    ray_clusters: Annotated[dict[str, ClusterConfig], NoDecode] = {}
    """Ray clusters by the names that `resources.cluster` has for them, as a JSON object:
    {"lab": {"address": "http://head:8265", "token_file": "/etc/finery/lab.token"}}."""

    @field_validator("ray_clusters", mode="before")
    @classmethod
    def _from_json(cls, raw: Any) -> Any:
        if not isinstance(raw, str):
            return raw
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"it is not JSON ({error.msg})") from None

    @model_validator(mode="wrap")
    @classmethod
    def _names_the_variable(cls, raw: Any, handler: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        try:
            return handler(raw)
        except ValidationError as error:
            raise _invalid(error) from None

    def make_home(self) -> None:
        """Make the folder `home` where there is none. Raises `Unavailable` when it cannot be written."""
        folders.writable(self.home, way_out="set FINERY_HOME to a folder that can be written", mode=0o700)

    @property
    def verl_interpreter(self) -> Path:
        """The interpreter of the environment that has verl, whether it is there or not."""
        return environment.interpreter(environment.VERL_PYTHON, {environment.VERL_PYTHON: self.verl_python})

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


def _invalid(error: ValidationError) -> InvalidSpec:
    """pydantic's report in words of the environment: each variable with what is wrong and what is expected."""
    wrong: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=False):
        name, *inner = map(str, item["loc"])
        is_unknown = item["type"] == "extra_forbidden"
        told = "unknown key; remove it or correct its spelling" if is_unknown else str(item["msg"])
        at = f"{'.'.join(inner)}: " if inner else ""
        wrong.setdefault(name, []).append(at + told.removeprefix("Value error, "))
    problems = []
    for name, told_of in wrong.items():
        expected = " ".join((Settings.model_fields[name].description or "").split()).rstrip(".")
        told = "; ".join([*told_of, f"expected: {expected}"] if expected else told_of)
        problems.append(Problem(f"{_PREFIX}{name.upper()}", told))
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return InvalidSpec(f"{problems[0].path} is not right: {problems[0].message}{more}", tuple(problems))
