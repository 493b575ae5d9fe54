"""What goes through the two pipes between the child that holds a model and its parent: a line of JSON each."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from finery.chat.specs import ChatEvent, ChatSampling, ChatTurn
from finery.core.rundir import ResolvedInput

LOADED: Final = 0
"""Id under which the child says that it has loaded its model, or why not. Questions have ids from 1 on."""


class Opening(BaseModel):
    """The first line to the child."""

    ref: str
    resolved: ResolvedInput
    lock: Path
    """File that is locked while the model is loaded."""


class Question(BaseModel):
    type: Literal["question"] = "question"
    id: int
    messages: tuple[ChatTurn, ...]
    sampling: ChatSampling


class Stop(BaseModel):
    """End the answer to a question early. One that is over already is left alone."""

    type: Literal["stop"] = "stop"
    id: int


class Inquiry(BaseModel):
    """Any later line to the child."""

    asked: Annotated[Question | Stop, Field(discriminator="type")]


class Answered(BaseModel):
    """A line from the child."""

    id: int
    event: ChatEvent | None
    """None says that the model is loaded."""
