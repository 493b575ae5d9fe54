"""REST of the compute planner. It keeps nothing and reads no database: an answer is a function of the request."""

from fastapi import APIRouter

from finery.planner import accelerators, catalog, planning
from finery.planner.specs import PlannerChoices, PlanRequest, PlanView

router = APIRouter(prefix="/plan", tags=["planner"])


@router.post("")
def plan(body: PlanRequest) -> PlanView:
    """How a job runs fastest on given devices, what it takes there, and why other ways lost."""
    return planning.plan(body)


@router.get("/choices")
def choices() -> PlannerChoices:
    """Models and accelerators that are known by name."""
    return PlannerChoices(models=catalog.names(), accelerators=accelerators.names())
