"""How much a request may send: refused by its Content-Length before a byte is read, and counted where it has none.

The web framework collects a body, or spools an upload to the disk, before a route sees it: the bound stands before it.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finery.api.failures import refuse

MAX_BODY_BYTES = 32 << 20
"""Of what is no upload: enough for the largest folder and pipeline."""
_ENVELOPE_BYTES = 64 << 10
"""Of a multipart body around its file."""
_UPLOAD = "/api/objects"


class _TooMuch(Exception):
    """The body went beyond its bound while it was read."""


class BodyLimit:
    """Middleware that bounds bodies."""

    def __init__(self, app: ASGIApp, *, max_upload_bytes: int):
        self._app = app
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == _UPLOAD
        limit = self._max_upload_bytes + _ENVELOPE_BYTES if is_upload else MAX_BODY_BYTES
        length = dict(scope["headers"]).get(b"content-length", b"")
        if is_upload and scope["method"] == "POST" and not length.isdigit():
            await refuse(send, 413, "too_large", "an upload needs a Content-Length")
        elif length.isdigit() and int(length) > limit:
            await refuse(send, 413, "too_large", _words(limit))
        else:
            await self._counted(scope, receive, send, limit)

    async def _counted(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        num_bytes = 0
        is_refused = False

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                raise _TooMuch
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal is_refused
            if num_bytes <= limit:
                await send(message)
            elif not is_refused:
                is_refused = True
                await refuse(send, 413, "too_large", _words(limit))

        await self._app(scope, receive_counted, send_unless_refused)


def _words(limit: int) -> str:
    return f"the body is larger than {limit:,} bytes; split it, or raise FINERY_MAX_UPLOAD_BYTES for an upload"
