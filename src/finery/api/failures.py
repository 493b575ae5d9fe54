"""How every failure looks on the wire, and which ones the API declares.

A failure that is meant is a FineryError, a body that does not validate, or what the router says of a path or verb; each
is rendered as a `FailureView` and declared for every operation. Anything else is a bug: a 500 that nothing declares.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Send

from finery.core.errors import FineryError, InvalidSpec
from finery.core.spec import View
from finery.jobs.specs import ProblemView


class FailureView(View):
    """Why a request was refused: what was wrong, what was expected, the way out."""

    code: str
    """One word for programs, such as `not_found`."""
    message: str
    problems: list[ProblemView]
    """Where in the input it is wrong; empty for failures that have no place."""


_SCHEMA = {"$ref": "#/components/schemas/FailureView"}
"""Said in words, since FastAPI lists a failure under the media type of the operation, which may be CSV."""

DECLARED: dict[int | str, dict[str, Any]] = {
    status: {"model": FailureView, "description": words, "content": {"application/json": {"schema": _SCHEMA}}}
    for status, words in {
        400: "The request cannot be read, or its host is not allowed",
        401: "No token or session, or one that has ended",
        403: "Not from this origin, or not with these rights",
        404: "There is none",
        405: "The path does not have this verb",
        409: "Well formed, but the present state forbids it",
        413: "Larger than what is taken",
        422: "What was written is wrong, and where",
        503: "Something that is needed cannot be reached or is used up",
    }.items()
}


def install(app: FastAPI) -> None:
    """Render what routes raise."""
    app.add_exception_handler(FineryError, _render_error)
    app.add_exception_handler(RequestValidationError, _render_validation)
    app.add_exception_handler(HTTPException, _render_http)


def body(code: str, message: str, problems: Sequence[ProblemView] = ()) -> dict[str, Any]:
    """The answer as plain data."""
    return FailureView(code=code, message=message, problems=list(problems)).model_dump()


async def refuse(send: Send, status: int, code: str, message: str) -> None:
    """Answer a request from within a middleware."""
    content = orjson.dumps(body(code, message))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _render_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FineryError)
    found = error.problems if isinstance(error, InvalidSpec) else ()
    problems = [ProblemView(path=p.path, message=_text(p.message), line=p.line) for p in found]
    return JSONResponse(body(error.code, _text(str(error)), problems), error.status)


def _render_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        ProblemView(path=_text(".".join(str(part) for part in item["loc"])), message=_text(str(item["msg"])), line=None)
        for item in error.errors()
    ]
    first = problems[0] if problems else ProblemView(path="", message="not valid", line=None)
    message = f"the request is not valid at {first.path}: {first.message}"
    return JSONResponse(body("invalid_spec", message, problems), 422)


def _render_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    return JSONResponse(body(code, str(error.detail)), error.status_code, headers=dict(error.headers or {}))


def _text(words: str) -> str:
    """Half a surrogate pair, quoted from the input, has no UTF-8."""
    return words.encode("utf-8", "backslashreplace").decode()
