"""GET /metrics: what Prometheus reads. Outside /api, with a token of its own (auth.py)."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from finery.api.auth import METRICS_PATH
from finery.core.web import ClockDep, Db, SettingsDep
from finery.monitoring import scraping

router = APIRouter()


@router.get(METRICS_PATH, include_in_schema=False)
def metrics(db: Db, clock: ClockDep, settings: SettingsDep, accept: Annotated[str, Header()] = "") -> Response:
    """Jobs, queue, worker and machine, in the text format that the caller asks for: Prometheus or OpenMetrics."""

    class Now(Collector):
        def collect(self) -> scraping.Families:
            yield from scraping.platform(db, now=clock.now())
            yield from scraping.machine(settings.home)

    registry = CollectorRegistry()
    registry.register(Now())
    encode, content_type = choose_encoder(accept)
    return Response(encode(registry), media_type=content_type)
