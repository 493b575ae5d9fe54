"""Composes the FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

from finery.api import failures, live, metrics, sharing, static
from finery.api.auth import Guard, ensure_token
from finery.api.feeds import Feeds
from finery.api.headers import SafeHeaders
from finery.api.limits import BodyLimit
from finery.api.routes import router as server
from finery.chat.routes import router as chat
from finery.chat.service import Chats
from finery.core.clock import Clock, SystemClock
from finery.core.db import Database
from finery.core.objects import ObjectStore
from finery.core.settings import Settings
from finery.datasets.routes import router as datasets
from finery.evaluation.routes import router as benchmarks
from finery.experiments.routes import checkpoints
from finery.experiments.routes import router as evaluations
from finery.jobs.resolving import Resolver
from finery.jobs.routes import pipelines, plans, recipes
from finery.jobs.routes import router as jobs
from finery.monitoring.routes import alerts, rules
from finery.monitoring.routes import router as monitoring
from finery.notifying.routes import deliveries
from finery.notifying.routes import router as channels


def create_app(
    settings: Settings, *, db: Database | None = None, clock: Clock | None = None, web: Path | None = None
) -> FastAPI:
    """The application of one home. The database must be migrated already."""
    app = FastAPI(
        title="Finery",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        generate_unique_id_function=_operation_id,
        responses=failures.DECLARED,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.db = db or Database(settings.url)
    app.state.clock = clock or SystemClock()
    app.state.objects = ObjectStore(settings.objects)
    app.state.feeds = Feeds(app.state.db)
    app.state.chats = Chats(settings, Resolver(app.state.db, app.state.objects, settings))
    for router in (
        server,
        sharing.router,
        jobs,
        pipelines,
        recipes,
        plans,
        monitoring,
        alerts,
        rules,
        datasets,
        benchmarks,
        evaluations,
        checkpoints,
        chat,
        channels,
        deliveries,
        live.router,
    ):
        app.include_router(router, prefix="/api")
    app.include_router(metrics.router)
    static.mount(app, web or static.find())
    failures.install(app)
    app.add_middleware(BodyLimit, max_upload_bytes=settings.max_upload_bytes)
    app.add_middleware(
        Guard,
        db=app.state.db,
        settings=settings,
        clock=app.state.clock,
        token=ensure_token(settings.token_file),
        metrics_token=ensure_token(settings.metrics_token_file),
    )
    app.add_middleware(SafeHeaders)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.chats.close()


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name
