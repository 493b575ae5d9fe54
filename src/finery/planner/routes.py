"""REST of the compute planner. It keeps nothing and reads no database: an answer is a function of the request."""

from fastapi import APIRouter

from finery.planner import accelerators, catalog, exports, planning
from finery.planner.specs import ExportRequest, ExportView, PlannerChoices, PlanRequest, PlanView

router = APIRouter(prefix="/plan", tags=["planner"])


@router.post("")
def plan(body: PlanRequest) -> PlanView:
    """How a job runs fastest on given devices, what it takes there, and why other ways lost."""
    return planning.plan(body)


@router.get("/choices")
def choices() -> PlannerChoices:
    """Models and accelerators that are known by name."""
    return PlannerChoices(models=catalog.names(), accelerators=accelerators.names())


@router.post("/export")
def export(body: ExportRequest) -> ExportView:
    """The plan in the words of what runs it: the fastest way that fits and can be said in them."""
    return exports.export(planning.find(body.plan), body.format)
