"""The actions that change a live setting: `set`, `reduce_lr` and `increase_entropy_coef`."""

from collections.abc import Mapping

from pydantic import Field

from finery.core.spec import Spec
from finery.rules.actions import Effect, Impossible, SetControl, registry


class SetParams(Spec):
    control: str
    """A live setting, such as `learning_rate`, `kl_coef` or `temperature`."""
    value: float
    """What it is set to."""


class ReduceParams(Spec):
    factor: float = Field(0.5, gt=0, lt=1)
    """What the learning rate is multiplied with."""
    floor: float = Field(1e-8, ge=0)
    """It is not made smaller than this."""


class IncreaseParams(Spec):
    factor: float = Field(2.0, gt=1)
    """What the coefficient is multiplied with."""
    cap: float = Field(0.1, gt=0)
    """It is not made larger than this."""
    start: float = Field(1e-3, gt=0)
    """Where it begins when it is 0."""


@registry.register("set", params=SetParams)
def set_(controls: Mapping[str, float], params: SetParams) -> Effect:
    """Set a live setting to a value."""
    return _changed(controls, params.control, params.value)


@registry.register("reduce_lr", params=ReduceParams)
def reduce_lr(controls: Mapping[str, float], params: ReduceParams) -> Effect:
    """Multiply the learning rate with a factor below 1, down to a floor."""
    now = controls.get("learning_rate")
    return _changed(controls, "learning_rate", max(params.floor, (now or 0.0) * params.factor), upwards=False)


@registry.register("increase_entropy_coef", params=IncreaseParams)
def increase_entropy_coef(controls: Mapping[str, float], params: IncreaseParams) -> Effect:
    """Multiply the weight of the entropy with a factor above 1, up to a cap."""
    now = controls.get("entropy_coef") or 0.0
    wanted = now * params.factor if now > 0 else params.start
    return _changed(controls, "entropy_coef", min(params.cap, wanted), upwards=True)


def _changed(controls: Mapping[str, float], name: str, value: float, *, upwards: bool | None = None) -> Effect:
    """Nothing where there is no such setting, or where its bound is reached already."""
    if name not in controls:
        known = ", ".join(sorted(controls)) or "none"
        return Impossible(f"this run has no live setting {name}; it has {known}")
    now = controls[name]
    is_reached = now == value if upwards is None else (now >= value if upwards else now <= value)
    return Impossible(f"{name} is {now:g} already") if is_reached else SetControl(name, value)
