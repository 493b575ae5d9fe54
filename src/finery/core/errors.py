"""Every error that is raised on purpose.

    FineryError
      InvalidSpec   422   what the user wrote is wrong; carries the places
      NotFound      404
      Conflict      409   well formed, but the present state forbids it
      Forbidden     403
      Unauthorized  401
      TooLarge      413
      Unavailable   503   something that is needed cannot be reached or is used up (server, disk, hub)

A FineryError is an expected outcome: the API renders `status` and `code`, the CLI one red line and the exit code
that `finery.cli.exits` documents. Anything else is a bug and keeps its traceback.
"""

from dataclasses import dataclass


class FineryError(Exception):
    """Base of all expected failures. The message says what was wrong, what was expected and the way out."""

    status = 500
    code = "internal"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input, and where."""

    path: str
    """Dotted path of the field, such as `task.optim.learning_rate`; empty for the whole input."""
    message: str
    line: int | None = None
    """1-based line in the file that the user wrote, when it is known."""


class InvalidSpec(FineryError):
    """What the user wrote is wrong."""

    status = 422
    code = "invalid_spec"

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()):
        super().__init__(message)
        self.problems = problems


class NotFound(FineryError):
    status = 404
    code = "not_found"


class Conflict(FineryError):
    """The request is well formed but the current state forbids it."""

    status = 409
    code = "conflict"


class Forbidden(FineryError):
    status = 403
    code = "forbidden"


class Unauthorized(FineryError):
    status = 401
    code = "unauthorized"


class TooLarge(FineryError):
    status = 413
    code = "too_large"


class Unavailable(FineryError):
    """Something outside is needed and cannot be used now."""

    status = 503
    code = "unavailable"
