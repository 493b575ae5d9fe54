"""`python -m finery.chat`: the child that holds one model. Its parent talks to it through two pipes.

It reads a line of JSON for each thing that is asked (`Opening` first, then `Question` and `Stop`) and writes a line for
each `Answered`. What libraries print goes to stderr, the log. It answers one question after the other and ends when its
stdin closes, whatever it is doing: that is how it never outlives its parent.
"""

import _thread
import os
import queue
import signal
import sys
import threading
import time
import traceback
from functools import partial
from operator import contains
from typing import BinaryIO

from finery.chat.pipe import LOADED, Answered, Inquiry, Opening, Question
from finery.chat.specs import ChatFailed
from finery.core.errors import FineryError

_Questions = queue.SimpleQueue[Question | None]
_TIDY_SECONDS = 3.0
"""To clean up behind a load or download that is broken off."""


def main() -> int:
    """Load what the first line names, then answer."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the server in the background ignores it
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    opening = Opening.model_validate_json(sys.stdin.buffer.readline())
    questions: _Questions = queue.SimpleQueue()
    stopped: set[int] = set()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, questions, stopped), daemon=True).start()
    try:
        return _serve(opening, questions, stopped, output)
    except KeyboardInterrupt:
        return 0


def _serve(opening: Opening, questions: _Questions, stopped: set[int], output: BinaryIO) -> int:
    try:
        from finery.chat.runner import Answerer  # noqa: PLC0415 - torch takes seconds, and the parent waits for nothing

        answerer = Answerer(opening.ref, opening.resolved, opening.lock)
    except Exception as error:  # noqa: BLE001 - the only witness: told to the parent
        _tell(output, LOADED, _failure(error))
        return 1
    _tell(output, LOADED, None)
    while (question := questions.get()) is not None:
        number = question.id
        try:
            for event in answerer.answer(question.messages, question.sampling, partial(contains, stopped, number)):
                _tell(output, number, event)
        except Exception as error:  # noqa: BLE001 - as above; the next question may go well
            _tell(output, number, _failure(error))
        stopped.discard(number)
    return 0


def _listen(source: BinaryIO, questions: _Questions, stopped: set[int]) -> None:
    """Pass on what is asked; end the process when nobody asks any more, or when what is asked cannot be read."""
    try:
        for line in source:
            asked = Inquiry.model_validate_json(line).asked
            if isinstance(asked, Question):
                questions.put(asked)
            else:
                stopped.add(asked.id)
    except Exception:  # noqa: BLE001 - the only witness: told to the log, since the process ends below
        traceback.print_exc()
    finally:
        questions.put(None)
        _thread.interrupt_main()
        time.sleep(_TIDY_SECONDS)
        os._exit(0)


def _tell(output: BinaryIO, id: int, event: object) -> None:
    output.write(Answered(id=id, event=event).model_dump_json().encode() + b"\n")


def _failure(error: Exception) -> ChatFailed:
    if isinstance(error, FineryError):
        return ChatFailed(type="failed", code=error.code, message=str(error))
    traceback.print_exc()
    return ChatFailed(type="failed", code="internal", message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    os._exit(main())  # at once: to take an interpreter with torch down in order takes a second
