"""What a question to a model is, and what comes back while it answers."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import Spec, View

MAX_TURNS = 2000


class ChatTurn(Spec):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=1_000_000)


class ChatSampling(Spec):
    """How an answer is drawn."""

    temperature: float = Field(0.7, ge=0, le=10)
    """0 takes the most likely token every time; higher is more varied."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Draw from the smallest set of tokens whose probability adds up to this."""
    top_k: int = Field(0, ge=0, le=1_000_000)
    """Draw among this many most likely tokens only. 0 is no limit."""
    max_new_tokens: int = Field(512, ge=1, le=1_000_000)
    """Longest answer, in tokens."""
    seed: int | None = Field(None, ge=0, lt=2**63)
    """With a seed, the same conversation gets the same answer; None draws anew each time."""


class ChatSpec(Spec):
    """A conversation whose next turn is the model's."""

    model: str = Field(min_length=1, max_length=500)
    """A built-in name, a hub id, or a checkpoint of a job (`job:41/step:200`, `job:41/last`)."""
    messages: tuple[ChatTurn, ...] = Field(min_length=1, max_length=MAX_TURNS)
    """The whole conversation; the last turn is the user's."""
    sampling: ChatSampling = ChatSampling()

    @model_validator(mode="after")
    def _is_the_models_turn(self) -> Self:
        if self.messages[-1].role != "user":
            raise ValueError(f"the last message must be the user's, but it is from {self.messages[-1].role}")
        if any(turn.role == "system" for turn in self.messages[1:]):
            raise ValueError("only the first message can be the system's")
        return self


class ChatLoading(View):
    """The model is being loaded first."""

    type: Literal["loading"]


class ChatText(View):
    """The next piece of the answer."""

    type: Literal["text"]
    text: str


class ChatDone(View):
    """The answer is complete."""

    type: Literal["done"]
    reason: Literal["end", "length", "window", "stopped"]
    """`end`: the model ended its turn; `length`: max_new_tokens were drawn; `window`: the model takes no more tokens;
    `stopped`: you ended it."""
    num_tokens: int
    """Of the answer."""
    num_prompt_tokens: int
    """Of the conversation before it."""
    num_reused_tokens: int
    """Of those, how many were still computed from the turn before."""
    seconds: float


class ChatFailed(View):
    """There is no answer, or no more of it."""

    type: Literal["failed"]
    code: str
    message: str


ChatEvent = Annotated[ChatLoading | ChatText | ChatDone | ChatFailed, Field(discriminator="type")]


class ChatStream(View):
    """The data of each server-sent event of an answer is one of these. `done` or `failed` is the last."""

    event: ChatEvent


class ChatBuiltin(View):
    """A model that needs no file."""

    ref: str
    summary: str


class ChatCheckpoint(View):
    """A checkpoint that can be talked to."""

    ref: str
    job_id: int
    job_name: str
    step: int
    created_at: datetime


class ChatChoices(View):
    """Whom one can talk to, besides any hub id."""

    builtin: list[ChatBuiltin]
    checkpoints: list[ChatCheckpoint]
    """The newest ones, newest first."""
    loaded: list[str]
    """References that answer at once."""
    sampling: ChatSampling
    """How answers are drawn where a question does not say."""
