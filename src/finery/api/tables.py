"""Tables of the API: who is logged in, and links to single runs. Only hashes are kept."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from finery.core.db import Table


class LoginCode(Table):
    """A one-time code of a login link."""

    __tablename__ = "login_code"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]


class BrowserSession(Table):
    """A browser that has exchanged a code."""

    __tablename__ = "browser_session"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Share(Table):
    """A link with which anyone can read one run."""

    __tablename__ = "share"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    """Of the link's key."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
