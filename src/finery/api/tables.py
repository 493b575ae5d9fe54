"""Tables of the API: who is logged in. Only hashes are kept."""

from datetime import datetime

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
