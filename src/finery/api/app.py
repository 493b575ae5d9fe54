"""Composes the FastAPI application."""

from pathlib import Path

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from finery.api import live, static
from finery.api.auth import Guard, ensure_token
from finery.api.routes import router as server
from finery.core.clock import Clock, SystemClock
from finery.core.db import Database
from finery.core.errors import FineryError, InvalidSpec
from finery.core.objects import ObjectStore
from finery.core.settings import Settings
from finery.datasets.routes import router as datasets
from finery.evaluation.routes import router as benchmarks
from finery.experiments.routes import router as evaluations
from finery.jobs.routes import pipelines
from finery.jobs.routes import router as jobs
from finery.monitoring.routes import alerts
from finery.monitoring.routes import router as monitoring


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
    )
    app.state.settings = settings
    app.state.db = db or Database(settings.url)
    app.state.clock = clock or SystemClock()
    app.state.objects = ObjectStore(settings.objects)
    for router in (server, jobs, pipelines, monitoring, alerts, datasets, benchmarks, evaluations, live.router):
        app.include_router(router, prefix="/api")
    static.mount(app, web or static.find())
    app.add_exception_handler(FineryError, _render_error)
    app.add_exception_handler(RequestValidationError, _render_validation)
    app.add_middleware(
        Guard, db=app.state.db, settings=settings, clock=app.state.clock, token=ensure_token(settings.token_file)
    )
    return app


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


def _render_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FineryError)
    problems = error.problems if isinstance(error, InvalidSpec) else ()
    body = {
        "code": error.code,
        "message": str(error),
        "problems": [{"path": p.path, "message": p.message, "line": p.line} for p in problems],
    }
    return JSONResponse(body, error.status)


def _render_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"path": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"]), "line": None}
        for item in error.errors()
    ]
    first = problems[0] if problems else {"path": "", "message": "not valid"}
    message = f"the request is not valid at {first['path']}: {first['message']}"
    return JSONResponse(
        orjson.loads(orjson.dumps({"code": "invalid_spec", "message": message, "problems": problems})), 422
    )
