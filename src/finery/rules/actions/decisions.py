"""The actions `pause_training`, `stop` and `checkpoint_now`: what a person could ask for as well."""

from collections.abc import Mapping

from finery.core.hooks import Decision
from finery.core.spec import Spec
from finery.rules.actions import Decide, registry


class NoParams(Spec):
    pass


@registry.register("pause_training", params=NoParams)
def pause_training(controls: Mapping[str, float], params: NoParams) -> Decide:
    """Save a checkpoint and pause; the job can be resumed."""
    return Decide(Decision.PAUSE)


@registry.register("stop", params=NoParams)
def stop(controls: Mapping[str, float], params: NoParams) -> Decide:
    """Stop for good, with a checkpoint where that is quick."""
    return Decide(Decision.CANCEL)


@registry.register("checkpoint_now", params=NoParams)
def checkpoint_now(controls: Mapping[str, float], params: NoParams) -> Decide:
    """Save a checkpoint and go on."""
    return Decide(Decision.CHECKPOINT)
