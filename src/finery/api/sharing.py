"""Read-only links to one run: who has such a link sees the page of the run and nothing else, until it ends.

The key of a link is exchanged for cookies whose path is the run's, so that a browser sends them nowhere else. What a
guest may read is a list of paths; anything that is not on it is refused like a stranger's request.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from finery.api import cookies
from finery.api.tables import Share
from finery.core.errors import NotFound, Unauthorized
from finery.core.spec import Spec, View
from finery.core.web import ClockDep, Db
from finery.jobs import service as jobs

COOKIE = "finery_share"
MAX_DAYS = 90

_READABLE = re.compile(
    r"/api/(?:jobs/(\d{1,9})(?:/(?:events|metrics|checkpoints|series|series\.csv|resources|cluster|logs|recipe|live"
    r"|story|rules|gradients(?:/(?:series|histogram))?|rollouts(?:/(?:steps|one|prompt|detectors))?))?"
    r"|evaluations/(\d{1,9})/(?:samples|policies))"
)
_COOKIE_PATHS = ("/api/jobs/{job_id}", "/api/evaluations/{job_id}")

router = APIRouter(tags=["sharing"])


class ShareSpec(Spec):
    """What to share, and for how long."""

    job_id: int = Field(ge=1, lt=2**31)
    days: int = Field(7, ge=1, le=MAX_DAYS)


class ShareView(View):
    """A link that is open."""

    id: int
    job_id: int
    created_at: datetime
    expires_at: datetime


class NewShareView(ShareView):
    """A link that was just made. It is shown this once: only a hash of its key is kept."""

    link: str


class ShareList(View):
    shares: list[ShareView]


class GuestSpec(Spec):
    """The key of a link."""

    job_id: int = Field(ge=1, lt=2**31)
    key: str = Field(min_length=1, max_length=200)


@router.post("/shares", status_code=201)
def make_share(body: ShareSpec, request: Request, db: Db, clock: ClockDep) -> NewShareView:
    """Make a link with which anyone can read one run, its output and samples too, and change nothing."""
    jobs.get(db, body.job_id)
    key = secrets.token_urlsafe(24)
    now = clock.now()
    share = Share(
        job_id=body.job_id, sha256=cookies.digest(key), created_at=now, expires_at=now + timedelta(days=body.days)
    )
    db.add(share)
    db.flush()
    link = f"{str(request.base_url).rstrip('/')}/shared/{body.job_id}#key={key}"
    return NewShareView(**_fields(share), link=link)


@router.get("/shares")
def list_shares(db: Db, clock: ClockDep, job_id: Annotated[int, Query(ge=1, lt=2**31)]) -> ShareList:
    """Links of a run that are still open, the newest first."""
    open_ = select(Share).where(Share.job_id == job_id, Share.expires_at >= clock.now()).order_by(Share.id.desc())
    return ShareList(shares=[ShareView(**_fields(share)) for share in db.scalars(open_)])


@router.delete("/shares/{share_id}", status_code=204)
def withdraw_share(share_id: Annotated[int, Path(ge=1, lt=2**31)], db: Db) -> None:
    """Close a link. Who reads with it is shut out at the next request."""
    found = db.execute(delete(Share).where(Share.id == share_id))
    if found.rowcount != 1:  # type: ignore[attr-defined]
        raise NotFound(f"there is no link {share_id}; it may have been withdrawn already")


@router.post("/guests", status_code=204)
def enter(body: GuestSpec, request: Request, response: Response, db: Db, clock: ClockDep) -> None:
    """Exchange the key of a link for cookies that open one run for reading. The link works until it ends."""
    share = db.scalars(
        select(Share).where(Share.sha256 == cookies.digest(body.key), Share.job_id == body.job_id)
    ).first()
    if share is None or share.expires_at < clock.now():
        raise Unauthorized("this link has ended or was withdrawn; ask who gave it to you for a new one")
    for path in _COOKIE_PATHS:
        response.set_cookie(
            COOKIE,
            body.key,
            path=path.format(job_id=body.job_id),
            max_age=int((share.expires_at - clock.now()).total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )


def may_read(session: Session, path: str, headers: Mapping[str, str], *, now: datetime) -> bool:
    """Whether a request is one that a guest may make, from a guest of this run.

    Args:
        session: Where the links are.
        path: Of the request.
        headers: Of the request, names in lower case.
        now: A link that ended before is closed.
    """
    asked = _READABLE.fullmatch(path)
    key = cookies.value(headers.get("cookie", ""), COOKIE)
    if asked is None or key is None:
        return False
    share = session.scalars(select(Share).where(Share.sha256 == cookies.digest(key))).first()
    return share is not None and share.job_id == int(asked[1] or asked[2]) and share.expires_at >= now


def _fields(share: Share) -> dict[str, object]:
    names = ("id", "job_id", "created_at", "expires_at")
    return {name: getattr(share, name) for name in names}
