"""REST of chat: an answer comes as server-sent events, and closing the request stops it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from finery.chat import service
from finery.chat.child import Child
from finery.chat.service import Chats
from finery.chat.specs import ChatChoices, ChatEvent, ChatSampling, ChatSpec, ChatStream
from finery.core.web import Db

router = APIRouter(prefix="/chat", tags=["chat"])


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


_SCHEMA = {"$ref": "#/components/schemas/ChatStream"}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatStream,
        "description": "Server-sent events; the data of each is a ChatStream",
        "content": {"text/event-stream": {"schema": _SCHEMA}},
    }
}


def _chats(request: Request) -> Chats:
    chats: Chats = request.app.state.chats
    return chats


ChatsDep = Annotated[Chats, Depends(_chats)]


@router.get("/choices")
def choices(db: Db, chats: ChatsDep) -> ChatChoices:
    """Built-in models, the newest checkpoints, and what is loaded now."""
    return ChatChoices(
        builtin=service.builtin(),
        checkpoints=service.checkpoints(db),
        loaded=[child.ref for child in chats.loaded() if child.is_loaded],
        sampling=ChatSampling(),
    )


@router.post("", response_class=EventStream, responses=_STREAM)
def answer(body: ChatSpec, chats: ChatsDep) -> EventStream:
    """The model's next turn, streamed; the model is loaded first where it is not. Closing the request stops it."""
    return EventStream(_events(chats.child(body.model), body))


async def _events(child: Child, asked: ChatSpec) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[ChatEvent] = asyncio.Queue()

    def take(event: ChatEvent) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    number = child.ask(asked.messages, asked.sampling, take)
    try:
        while True:
            event = await events.get()
            yield b"data: " + ChatStream(event=event).model_dump_json().encode() + b"\n\n"
            if event.type in ("done", "failed"):
                return
    finally:
        child.forget(number)
