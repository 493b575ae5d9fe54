"""`finery chat`: talk to a model or checkpoint in the terminal, or through a pipe. Needs no server.

The model lies in a child process, as under the server; this one reads lines, shows answers and obeys what begins with
a slash.
"""

import io
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from finery.chat.child import Answer, Child
from finery.chat.specs import ChatDone, ChatFailed, ChatSampling, ChatTurn
from finery.chat.transcript import Conversation, read, turn, write
from finery.cli.run import local_resolver
from finery.core import console
from finery.core.console import JsonOption
from finery.core.errors import FineryError, InvalidSpec, NotFound, Unavailable
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs.resolving import hub_tokens

_HELP = """\
/set                    how answers are drawn
/set temperature 0.2    change it; also top_p, top_k, max_new_tokens, seed (none draws anew each time)
/system TEXT            what the model is told first; without TEXT it is told nothing
/reset                  begin a new conversation
/save FILE, /load FILE  the conversation as JSON Lines (.jsonl) or JSON (.json)
/help  /exit            Ctrl-C stops an answer, Ctrl-D ends. A message that begins with a slash: //like this"""

RefArgument = Annotated[
    str,
    typer.Argument(
        help="Built-in name, hub id, folder (./my-model), or checkpoint (job:41/last, job:41/step:200).",
        show_default=False,
    ),
]


def chat(
    ref: RefArgument,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Say this, show the answer, end.")] = None,
    compare: Annotated[str | None, typer.Option("--compare", help="A second model that answers the same.")] = None,
    system: Annotated[str, typer.Option("--system", help="What the model is told first.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="How answers are drawn: temperature=0.2. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Talk to a model or checkpoint. /help lists what can be done; each line of a pipe is a message."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is no UTF-8 is refused as a message, in words
    sampling = ChatSampling()
    for text in set_ or []:
        name, _, value = text.partition("=")
        sampling = changed(sampling, name, value)
    with _sides([ref] if compare is None else [ref, compare], system, sampling) as sides:
        talk = Talk(sides, as_json=as_json)
        if message is not None:
            talk.say(message)
        elif sys.stdin.isatty() and console.is_terminal():
            _converse(talk)
        else:
            for line in sys.stdin:
                if not talk.take(line.rstrip("\n")):
                    return


def changed(sampling: ChatSampling, name: str, value: str) -> ChatSampling:
    """The settings with one of them changed.

    Raises:
        InvalidSpec: there is no such setting, or it cannot have this value.
    """
    if name not in ChatSampling.model_fields:
        raise InvalidSpec(f"there is no setting {name!r}; known are {', '.join(ChatSampling.model_fields)}")
    given: str | None = None if value.lower() in ("none", "") and name == "seed" else value
    made: ChatSampling = parse(ChatSampling, sampling.model_dump() | {name: given}, what=f"/set {name}")
    return made


class Talk:
    """One conversation with one model, or the same one with two."""

    def __init__(self, sides: list[tuple[Child, Conversation]], *, as_json: bool):
        self._sides = sides
        self._as_json = as_json

    def take(self, line: str) -> bool:
        """Obey or answer one line; False when it ends the talk.

        Raises:
            FineryError: it could not be done; the conversation is as it was.
        """
        if not line.strip():
            return True
        if line.startswith("//") or not line.startswith("/"):
            self.say(line.removeprefix("/") if line.startswith("//") else line)
            return True
        command, _, rest = line[1:].partition(" ")
        if command in ("exit", "quit"):
            return False
        obey = self._commands().get(command)
        if obey is None:
            raise InvalidSpec(f"there is no command /{command}; /help lists them")
        obey(rest.strip())
        return True

    def say(self, text: str) -> None:
        """Send a message to each side and show what comes."""
        said: list[list[ChatTurn]] = []
        for child, conversation in self._sides:
            if len(self._sides) > 1 and not self._as_json:
                console.say(f"--- {conversation.model}")
            turns = [*conversation.messages, turn("user", text, what="the message")]
            answer, done = self._answer(child, turns, conversation.sampling)
            said.append([*turns, turn("assistant", answer, what="the answer")])
            if self._as_json:
                console.emit_line({"model": conversation.model, "answer": answer, **done.model_dump(exclude={"type"})})
        for (_, conversation), messages in zip(self._sides, said, strict=True):
            conversation.messages = messages

    def _answer(self, child: Child, turns: list[ChatTurn], sampling: ChatSampling) -> tuple[str, ChatDone]:
        """The whole of an answer that is shown as it comes."""
        answer = Answer(child, turns, sampling)
        pieces: list[str] = []
        with _interrupts(answer.stop):
            for event in answer:
                if event.type == "loading" and console.is_terminal() and not self._as_json:
                    console.warn(f"loading {child.ref} ...")
                elif event.type == "text":
                    pieces.append(event.text)
                    self._show(event.text)
                elif isinstance(event, ChatFailed):
                    raise _ERRORS.get(event.code, FineryError)(event.message)
                elif isinstance(event, ChatDone):
                    self._end(event)
                    return "".join(pieces), event
        raise AssertionError("an answer ends with done or failed")

    def _show(self, text: str) -> None:
        if not self._as_json:
            console.write("\n".join(console.printable(line) for line in text.split("\n")))

    def _end(self, done: ChatDone) -> None:
        if self._as_json:
            return
        console.write("\n")
        if done.reason != "end" and console.is_terminal():
            console.warn(_ENDINGS[done.reason])

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "set": self._set,
            "system": self._system,
            "reset": self._reset,
            "save": self._save,
            "load": self._load,
            "help": lambda _: console.say(_HELP),
        }

    def _set(self, text: str) -> None:
        name, _, value = text.partition(" ")
        if not name:
            for key, shown in self._sides[0][1].sampling.model_dump().items():
                console.say(f"{key} {'none' if shown is None else shown}")
            return
        for _, conversation in self._sides:
            conversation.sampling = changed(conversation.sampling, name, value.strip())

    def _system(self, text: str) -> None:
        for _, conversation in self._sides:
            conversation.tell(text)

    def _reset(self, _: str) -> None:
        for _child, conversation in self._sides:
            conversation.reset()

    def _save(self, name: str) -> None:
        path = _path(name, "save")
        write(path, [conversation for _, conversation in self._sides])
        self._note(f"saved in {path}")

    def _load(self, name: str) -> None:
        path = _path(name, "load")
        found = read(path)
        for index, (_, conversation) in enumerate(self._sides):
            conversation.messages = found[min(index, len(found) - 1)].messages
        self._note(f"{len(found[0].messages)} messages from {path}")

    def _note(self, text: str) -> None:
        if console.is_terminal() and not self._as_json:
            console.say(text)


_ENDINGS = {
    "length": "(max_new_tokens is reached; /set max_new_tokens 1024 allows more)",
    "window": "(the model takes no more; /reset begins a new conversation)",
    "stopped": "(stopped)",
}


def _converse(talk: Talk) -> None:
    """Read from a person."""
    import readline  # noqa: F401, PLC0415 - gives input() its keys and history, and exists on a terminal only

    console.say("/help lists what can be done; Ctrl-D ends")
    while True:
        try:
            if not talk.take(input("> ")):
                return
        except EOFError:
            console.say("")
            return
        except KeyboardInterrupt:  # with no answer to stop: what was being typed is dropped
            console.say("")
        except FineryError as error:
            console.fail(str(error))


@contextmanager
def _sides(refs: list[str], system: str, sampling: ChatSampling) -> Iterator[list[tuple[Child, Conversation]]]:
    """Children that load while the first line is written; they end with the block."""
    settings = Settings()
    resolver = local_resolver(settings)
    resolved = [(ref, resolver.reference(ref, allow_paths=True)) for ref in refs]
    tokens = hub_tokens(settings)
    children: list[Child] = []
    try:
        sides = []
        for ref, found in resolved:
            children.append(Child(ref, found, home=settings.home, tokens=tokens))
            conversation = Conversation(model=ref, sampling=sampling, messages=[])
            conversation.tell(system)
            sides.append((children[-1], conversation))
        yield sides
    finally:
        for child in children:
            child.close()


@contextmanager
def _interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Within, Ctrl-C calls `stop`."""

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _path(name: str, command: str) -> Path:
    if not name:
        raise InvalidSpec(f"name a file: /{command} talk.jsonl")
    return Path(name).expanduser()


_ERRORS: dict[str, type[FineryError]] = {
    "invalid_spec": InvalidSpec,
    "not_found": NotFound,
    "out_of_memory": Unavailable,
    "unavailable": Unavailable,
}
