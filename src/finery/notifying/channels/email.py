"""The channel `email`: SMTP.

`Message-ID` is made from the message's key and is the same for each try, so that mail systems which look at it show a
message once that was handed over twice.
"""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.utils import formatdate
from socket import socket
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from finery.core.errors import FineryError, Forbidden
from finery.core.refs import SecretRef
from finery.core.spec import ADVANCED, Spec
from finery.notifying.channels import OPTIONAL_SECRET_NAME, SECRET, registry
from finery.notifying.wire import Wire
from finery.notifying.words import Message

_TIMEOUT_SECONDS = 10.0
_PORTS: Final = {"starttls": 587, "ssl": 465, "none": 25}

Address = Annotated[str, Field(pattern=r"^[^\s@<>,;:\"]+@[^\s@<>,;:\"]+$", max_length=254)]


class EmailParams(Spec):
    host: str = Field(pattern=r"^[^\s/@]+$", max_length=253)
    """Of the mail server, such as smtp.example.org."""
    port: int | None = Field(None, ge=1, le=65535)
    """None is 587 for `starttls`, 465 for `ssl`, 25 for `none`."""
    security: Literal["starttls", "ssl", "none"] = "starttls"
    """TLS begun within the connection, TLS from the first byte, or none. What is asked for is never given up."""
    sender: Address
    """Address that messages come from."""
    to: tuple[Address, ...] = Field(min_length=1, max_length=50)
    """Addresses that messages go to."""
    user: str = Field("", max_length=254, json_schema_extra=ADVANCED)
    """To log in with; empty sends without."""
    password: SecretRef = Field("", pattern=OPTIONAL_SECRET_NAME, json_schema_extra={**ADVANCED, **SECRET})
    """Of that user."""

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Self:
        if bool(self.user) != bool(self.password):
            raise ValueError("user and password belong together; give both or neither")
        if self.user and self.security == "none":
            raise ValueError("security none would send the password readable; take starttls or ssl")
        return self


@registry.register("email", params=EmailParams)
def email(message: Message, params: EmailParams, wire: Wire) -> None:
    """E-mail, handed to a mail server (SMTP)."""
    try:
        with _connected(params, wire) as server:
            if params.user:
                server.login(params.user, wire.secret(params.password))
            refused = server.send_message(_mail(message, params), params.sender, params.to)
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        raise wire.failure(_refusals(error.recipients), is_final=min(codes) >= 500) from error
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise wire.failure(f"code {error.smtp_code}: {said}", is_final=error.smtp_code >= 500) from error
    except (Forbidden, ssl.SSLCertVerificationError, smtplib.SMTPNotSupportedError) as error:
        raise wire.failure(str(error), is_final=True) from error
    except (FineryError, smtplib.SMTPException, OSError) as error:
        raise wire.failure(f"no answer: {str(error) or type(error).__name__}", is_final=False) from error
    if refused:  # the others have it: another try would tell them twice
        raise wire.failure(_refusals(refused), is_final=True)


def _mail(message: Message, params: EmailParams) -> EmailMessage:
    made = EmailMessage()
    made["Subject"] = message.title
    made["From"] = params.sender
    made["To"] = ", ".join(params.to)
    made["Date"] = formatdate()
    made["Message-ID"] = f"<{message.key}@finery.invalid>"
    made["Auto-Submitted"] = "auto-generated"
    link = ["", f"{message.link_text}: {message.link}"] if message.link else []
    made.set_content("\n".join([*message.lines, *link, ""]))
    return made


def _refusals(recipients: dict[str, tuple[int, bytes]]) -> str:
    listed = (f"{who}: {code} {said.decode('utf-8', 'replace')}" for who, (code, said) in recipients.items())
    return f"recipients were refused: {'; '.join(listed)}"


class _Server(smtplib.SMTP):
    """A mail server, reached by checked addresses and spoken to behind TLS where that is asked for."""

    def __init__(self, params: EmailParams, wire: Wire):
        self._params, self._wire = params, wire
        self._tls = ssl.create_default_context()
        super().__init__(params.host, params.port or _PORTS[params.security], timeout=_TIMEOUT_SECONDS)
        if params.security == "starttls":
            self.starttls(context=self._tls)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket:
        made = self._wire.connect(host, port, timeout)
        return self._tls.wrap_socket(made, server_hostname=host) if self._params.security == "ssl" else made


@contextmanager
def _connected(params: EmailParams, wire: Wire) -> Iterator[_Server]:
    server = _Server(params, wire)
    try:
        yield server
        with suppress(smtplib.SMTPException, OSError):  # what was taken stays taken, however it says goodbye
            server.quit()
    finally:
        server.close()
