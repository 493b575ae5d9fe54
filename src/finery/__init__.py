"""Finery: an LLM post-training platform. Raw data in; a chosen, evaluated, exported model out.

`finery.init`, `finery.log` and `finery.finish` report from any script; they are loaded when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finery.sdk import finish, init, log

__all__ = ["finish", "init", "log"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from finery import sdk  # noqa: PLC0415 - the platform's own processes have no use for it

        return getattr(sdk, name)
    raise AttributeError(f"module 'finery' has no attribute {name!r}")
