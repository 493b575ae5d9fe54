"""Routes of the server itself: login, its state, uploads, secrets."""

import dataclasses
import socket
from importlib import metadata
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response, UploadFile
from sqlalchemy import select

from finery.api import auth
from finery.api.specs import (
    DevicesView,
    LiveMessage,
    LoginCodeView,
    LoginSpec,
    SecretList,
    SecretSpec,
    SecretView,
    ServerView,
    StoredObjectView,
    TreeSpec,
    WorkerView,
)
from finery.core import machine
from finery.core.errors import Unavailable
from finery.core.secrets import SecretStore
from finery.core.web import Caller, ClockDep, Db, Objects, SettingsDep
from finery.jobs.tables import ALIVE, Worker

router = APIRouter(tags=["server"])
_CHUNK = 1 << 20


@router.post("/login", status_code=204)
def login(body: LoginSpec, request: Request, response: Response, db: Db, clock: ClockDep) -> None:
    """Exchange the one-time code of a login link for a session cookie."""
    secret = auth.exchange(db, body.code, now=clock.now())
    response.set_cookie(
        auth.COOKIE,
        secret,
        max_age=int(auth.SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


@router.post("/logout", status_code=204)
def logout(request: Request, response: Response, db: Db) -> None:
    """End the browser's session."""
    secret = request.cookies.get(auth.COOKIE)
    if secret:
        auth.end(db, secret)
    response.delete_cookie(auth.COOKIE)


@router.post("/login-codes", status_code=201)
def login_code(request: Request, db: Db, clock: ClockDep) -> LoginCodeView:
    """Make a login link."""
    code = auth.new_code(db, now=clock.now())
    return LoginCodeView(code=code, link=f"{str(request.base_url).rstrip('/')}/login#code={code}")


@router.get("/server")
def server(db: Db, clock: ClockDep, settings: SettingsDep) -> ServerView:
    """What runs here, and whether jobs can run."""
    seen = db.scalars(select(Worker.seen_at).order_by(Worker.seen_at.desc()).limit(1)).first()
    is_alive = seen is not None and clock.now() - seen < ALIVE
    return ServerView(
        version=metadata.version("finery"),
        home=str(settings.home),
        database="sqlite" if settings.url.startswith("sqlite") else "postgresql",
        worker=WorkerView(is_alive=is_alive, last_seen_at=seen),
    )


@router.get("/devices")
def devices(settings: SettingsDep) -> DevicesView:
    """How busy this machine is: processor (watched for a tenth of a second), memory, disk, GPUs."""
    seen = machine.look(settings.home, seconds=0.1)
    return DevicesView(host=socket.gethostname(), **dataclasses.asdict(seen))


@router.post("/objects", status_code=201)
def upload(file: UploadFile, objects: Objects, settings: SettingsDep) -> StoredObjectView:
    """Store a file by its content. The same content is stored once."""
    stored = objects.put_stream(iter(lambda: file.file.read(_CHUNK), b""), max_bytes=settings.max_upload_bytes)
    return StoredObjectView(sha256=stored.sha256, num_bytes=stored.num_bytes)


@router.get("/objects/{sha256}")
def get_object(sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")], objects: Objects) -> StoredObjectView:
    """Whether an object is here, and its size."""
    return StoredObjectView(sha256=sha256, num_bytes=objects.path(sha256).stat().st_size)


@router.post("/trees", status_code=201)
def make_tree(body: TreeSpec, objects: Objects) -> StoredObjectView:
    """Name a folder of uploaded files by its content."""
    stored = objects.put_manifest(body.files)
    return StoredObjectView(sha256=stored.sha256, num_bytes=stored.num_bytes)


@router.get("/secrets")
def list_secrets(settings: SettingsDep) -> SecretList:
    """Names of the stored secrets."""
    names = SecretStore(settings).names()
    return SecretList(secrets=[SecretView(name=found.name, updated_at=found.updated_at) for found in names])


@router.put("/secrets/{name}", status_code=204)
def set_secret(name: str, body: SecretSpec, settings: SettingsDep) -> None:
    """Store or replace a secret."""
    SecretStore(settings).write(name, body.value.get_secret_value())


@router.delete("/secrets/{name}", status_code=204)
def delete_secret(name: str, settings: SettingsDep) -> None:
    """Forget a secret."""
    SecretStore(settings).delete(name)


@router.get("/live-message")
def live_message(caller: Caller) -> LiveMessage:
    """The type of what `/api/live` and `/api/jobs/{job_id}/live` send over a websocket. There is none to fetch here."""
    raise Unavailable(f"{caller}: open a websocket at /api/live or /api/jobs/ID/live")
