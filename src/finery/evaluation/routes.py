"""REST of the evaluation slice."""

from fastapi import APIRouter

from finery.evaluation import benchmarks
from finery.evaluation.specs import BenchmarkPage, BenchmarkView

router = APIRouter(prefix="/benchmarks", tags=["evaluation"])


@router.get("")
def list_benchmarks() -> BenchmarkPage:
    """Benchmarks that an evaluate job can name, with the parameters of each."""
    return BenchmarkPage(
        benchmarks=[
            BenchmarkView(name=entry.name, summary=entry.summary, params_schema=entry.params.model_json_schema())
            for entry in benchmarks.registry.all()
        ]
    )
