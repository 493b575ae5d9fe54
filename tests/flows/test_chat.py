"""`finery chat` as a person and as a script meet it: real processes, a real model, a real terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from finery.chat.specs import ChatSampling, ChatTurn
from finery.chat.transcript import Conversation, read, write
from finery.core.errors import InvalidSpec, NotFound, Unavailable
from finery.models import loading, resolving
from tests.conftest import shared_folder
from tests.platform import Inside

Chat = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def chat_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "chat-home")


@pytest.fixture
def environment(chat_home: Path) -> dict[str, str]:
    return {**os.environ, "FINERY_HOME": str(chat_home), "NO_COLOR": "1", "TERM": "xterm"}


@pytest.fixture
def chat(environment: dict[str, str], tmp_path: Path) -> Chat:
    """Runs `finery chat` with lines on stdin."""

    def run(*arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "finery.cli.main", "chat", *arguments]
        return subprocess.run(
            argv, input=lines, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
        )

    return run


SHORT = ("-s", "max_new_tokens=12", "-s", "seed=3")


def test_each_line_of_a_pipe_is_a_turn_and_the_conversation_is_kept(chat: Chat, tmp_path: Path) -> None:
    lines = "/system be brief\none\n\n/set temperature 0\ntwo\n//three\n/save talk.jsonl\n/exit\nnever\n"
    done = chat("tiny-char", *SHORT, lines=lines)

    assert (done.returncode, done.stderr) == (0, "")
    kept = json.loads((tmp_path / "talk.jsonl").read_text())
    roles = [turn["role"] for turn in kept["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    assert [turn["content"] for turn in kept["messages"] if turn["role"] == "user"] == ["one", "two", "/three"]
    answers = [turn["content"] for turn in kept["messages"] if turn["role"] == "assistant"]
    assert done.stdout == "".join(f"{answer}\n" for answer in answers)
    assert kept["sampling"]["temperature"] == 0


def test_a_conversation_is_saved_reset_and_goes_on_and_answers_the_same_with_the_same_seed(chat: Chat) -> None:
    system = ("--system", "be brief", *SHORT)
    whole = chat("tiny-char", *system, "--json", lines="one\n/save a.json\ntwo\n/reset\none\n")
    rest = chat("tiny-char", *SHORT, "--json", lines="/load a.json\ntwo\n")
    alone = chat("tiny-char", *system, "-m", "one")

    first, second, again = (json.loads(line) for line in whole.stdout.splitlines())
    [loaded] = (json.loads(line) for line in rest.stdout.splitlines())
    assert loaded["num_prompt_tokens"] == second["num_prompt_tokens"] > first["num_prompt_tokens"]
    assert loaded["answer"] == second["answer"]
    assert second["num_reused_tokens"] >= first["num_prompt_tokens"]
    assert again["num_prompt_tokens"] == first["num_prompt_tokens"]  # what the model is told first is kept
    assert again["answer"] == first["answer"]
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == f"{first['answer']}\n"
    assert len(first["answer"]) > 4


def test_two_models_answer_the_same_one_after_the_other(chat: Chat, chat_home: Path) -> None:
    folder = chat_home / "models" / "tiny-char"
    loading.materialize(resolving.resolve("tiny-char", home=chat_home), "tiny-char")

    done = chat("tiny-char", "--compare", str(folder), *SHORT, lines="one\ntwo\n")

    assert done.returncode == 0, done.stderr
    shown = re.split(r"^--- (.*)$", done.stdout, flags=re.MULTILINE)
    assert shown[1::2] == ["tiny-char", str(folder)] * 2
    assert shown[2] == shown[4] != shown[6] == shown[8].rstrip("\n") + "\n"


@pytest.mark.parametrize(
    ("arguments", "lines", "message"),
    [
        (("tiny-chat",), "", "did you mean tiny-char"),
        (("./nowhere",), "", "no folder"),
        (("job:7/last",), "", "no job 7"),
        (("job:7",), "", "no checkpoint reference"),
        (("tiny-char", "-s", "heat=1"), "", "no setting 'heat'; known are temperature"),
        (("tiny-char", "-s", "top_p=0"), "", "top_p"),
        (("tiny-char",), "/set temperature hot\n", "temperature"),
        (("tiny-char",), "/sing\n", "no command /sing; /help lists them"),
        (("tiny-char",), "/save\n", "name a file"),
        (("tiny-char",), "/load none.jsonl\n", "none.jsonl cannot be read"),
        (("tiny-char",), "1+\0=\n", "the message is not valid: content holds a NUL character"),
        (("tiny-char",), "/system be\0brief\n", "the system prompt is not valid: content holds a NUL character"),
        (("tiny-char",), "1" * 1_000_001, "the message is not valid at content: String should have at most 1000000"),
        (("tiny-char",), "1" * 600, "the model takes 512 with its answer; write less"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_exit_code_2(
    inside: Inside, chat_home: Path, tmp_path: Path, arguments: tuple[str, ...], lines: str, message: str
) -> None:
    done = inside(tmp_path, "chat", *arguments, lines=lines, home=chat_home)

    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


class Terminal:
    """`finery chat` on a terminal."""

    def __init__(self, environment: dict[str, str], *arguments: str):
        self._own, other = pty.openpty()
        argv = [sys.executable, "-m", "finery.cli.main", "chat", *arguments]
        self.process = subprocess.Popen(
            argv, env=environment, stdin=other, stdout=other, stderr=other, start_new_session=True, preexec_fn=_control
        )
        os.close(other)
        self.shown = ""

    def read_until(self, pattern: str, seconds: float = 120) -> str:
        """What is shown from now on, up to a text that matches."""
        found = ""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, found):
            assert time.monotonic() < deadline, (pattern, found)
            if select.select([self._own], [], [], 0.2)[0]:
                try:
                    found += os.read(self._own, 4096).decode(errors="replace")
                except OSError:  # the other end is closed
                    assert re.search(pattern, found), found
        return found

    def interrupt_prompt(self) -> None:
        """Press Ctrl-C at a prompt until the next one comes: `input` of CPython misses one between prompt and wait."""
        for _ in range(12):
            self.write("\x03")
            if select.select([self._own], [], [], 10)[0]:
                self.read_until("> ")
                return
        raise AssertionError("Ctrl-C is not answered")

    def write(self, text: str | bytes) -> None:
        os.write(self._own, text.encode() if isinstance(text, str) else text)


def _control() -> None:
    """Make the terminal the one that Ctrl-C is typed on, also where the tests run without Ctrl-C."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Terminal]:
    made = Terminal(environment, "tiny-char", "-s", "max_new_tokens=490", "-s", "temperature=0")
    yield made
    for child in psutil.Process(made.process.pid).children() if made.process.poll() is None else []:
        child.kill()
    made.process.kill()
    made.process.wait()


def test_ctrl_c_stops_the_answer_and_ctrl_d_the_program(terminal: Terminal) -> None:
    terminal.read_until("> ")
    [child] = psutil.Process(terminal.process.pid).children()
    child.suspend()  # so that the answer does not end before it is stopped
    terminal.write("hello\n")
    terminal.read_until(r"loading tiny-char \.\.\.\r\n")
    terminal.write("\x03")
    terminal.read_until(r"\^C")
    child.resume()
    terminal.read_until(r"\(stopped\)\s+> ")

    terminal.write("/set\n")
    terminal.read_until(r"max_new_tokens 490[\s\S]*> ")  # the prompt too: the next one is the answer to Ctrl-C
    terminal.interrupt_prompt()
    terminal.write("/sing\n")
    terminal.read_until("no command /sing")
    terminal.write("/set max_new_tokens 3\n")
    terminal.write("again\n")
    terminal.read_until(r"max_new_tokens is reached.*\s+> ")
    terminal.write("\x04")

    assert terminal.process.wait(timeout=30) == 0
    assert not child.is_running()


def test_what_cannot_be_said_leaves_the_conversation_as_it_was(terminal: Terminal, tmp_path: Path) -> None:
    terminal.read_until("> ")
    terminal.write("/set max_new_tokens 3\n")
    terminal.write("one\n")
    terminal.read_until(r"max_new_tokens is reached.*\s+> ")
    terminal.write(b"\xff\xfe two\n")
    terminal.read_until(r"the message is not valid: content holds half of a surrogate pair.*\s+> ")
    terminal.write("three\n")
    terminal.read_until(r"max_new_tokens is reached.*\s+> ")
    terminal.write(f"/save {tmp_path / 'talk.json'}\n")
    terminal.read_until("saved in")

    [kept] = read(tmp_path / "talk.json")
    assert [turn.content for turn in kept.messages if turn.role == "user"] == ["one", "three"]


def conversation() -> Conversation:
    turns = [ChatTurn(role="user", content="one\ntwo"), ChatTurn(role="assistant", content="\u4e09")]
    return Conversation("tiny-char", ChatSampling(seed=4), turns)


@pytest.mark.parametrize("name", ["talk.jsonl", "talk.json"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [conversation(), conversation()])

    assert read(tmp_path / name) == [conversation(), conversation()]


@pytest.mark.parametrize("content", ["", "{", '{"messages": 3}', '{"messages": [{"role": "cook", "content": ""}]}'])
def test_a_file_without_a_conversation_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "talk.jsonl").write_text(content)

    with pytest.raises(InvalidSpec, match="talk.jsonl"):
        read(tmp_path / "talk.jsonl")


def test_files_that_cannot_be_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="none"):
        read(tmp_path / "none")
    with pytest.raises(Unavailable, match="name another file"):
        write(tmp_path / "none" / "talk.jsonl", [conversation()])
