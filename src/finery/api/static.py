"""Serves the built web UI. A path that is no file is the app's own (`/runs/4`) and gets index.html."""

from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Match

from finery.core.errors import FineryError
from finery.core.paths import resolve_inside

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_IMMUTABLE = "public, max-age=31536000, immutable"


def find() -> Path | None:
    """The folder of the built UI: inside the package, or beside the sources in a checkout."""
    packaged = Path(__file__).parent / "static"
    checkout = Path(__file__).parents[3] / "web" / "dist"
    return next((folder for folder in (packaged, checkout) if (folder / "index.html").is_file()), None)


def mount(app: FastAPI, folder: Path | None) -> None:
    """Answer every GET outside /api from `folder`."""

    @app.get("/{path:path}", include_in_schema=False)
    def page(path: str, request: Request) -> Response:
        if path == "api" or path.startswith("api/"):
            raise _no_route(app, request)
        if folder is None:
            return PlainTextResponse("The web UI has not been built: run `make web`. The API is at /api.\n", 503)
        file = _file(folder, path)
        if file is None:
            return FileResponse(folder / "index.html", headers={**_HEADERS, "Cache-Control": "no-cache"})
        is_hashed = file.parent.name == "assets"
        return FileResponse(file, headers={**_HEADERS, "Cache-Control": _IMMUTABLE if is_hashed else "no-cache"})


def _no_route(app: FastAPI, request: Request) -> HTTPException:
    """What to say to a GET under /api that no route took: another verb may have been meant."""
    found = [route for route in app.router.routes if route.matches(request.scope)[0] is Match.PARTIAL]
    if not found:
        return HTTPException(404, "there is no such route; /api/openapi.json lists them")
    return HTTPException(405, "this path has other verbs; /api/openapi.json lists them")


def _file(folder: Path, path: str) -> Path | None:
    if not path:
        return None
    try:
        found = resolve_inside(folder, path)
    except FineryError:
        return None
    return found if found.is_file() else None
