"""The action `rollback_checkpoint`."""

from collections.abc import Mapping

from pydantic import Field

from finery.core.spec import Spec
from finery.rules.actions import Rollback, registry


class RollbackParams(Spec):
    skip_data: bool = True
    """Leave out the rows of the batch in which the rule fired, for the rest of the run."""
    learning_rate_factor: float = Field(1.0, gt=0, le=1)
    """What the learning rate is multiplied with from there on."""


@registry.register("rollback_checkpoint", params=RollbackParams)
def rollback_checkpoint(controls: Mapping[str, float], params: RollbackParams) -> Rollback:
    """Go back to the last good checkpoint before the alert, and on from there."""
    return Rollback(params.skip_data, params.learning_rate_factor)
