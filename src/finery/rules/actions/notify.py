"""The action `notify`."""

from collections.abc import Mapping

from finery.core.spec import Spec
from finery.rules.actions import Notify, registry


class NotifyParams(Spec):
    channels: tuple[str, ...] = ()
    """Names of notification channels; none are all that are set up."""


@registry.register("notify", params=NotifyParams)
def notify(controls: Mapping[str, float], params: NotifyParams) -> Notify:
    """Tell people through the channels that are set up."""
    return Notify(params.channels)
