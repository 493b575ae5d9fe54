"""The process that holds a user's reward function: `python reward_host.py QUESTIONS ANSWERS`, two descriptors.

Imports nothing of Finery. Each question is a line of JSON and gets one as answer: {"load": path} takes the function of
a file, {"prompts", "completions", "columns"} calls it. Whatever goes wrong in the user's code is an answer
{"error": ...}; its traceback goes to standard error, which is the run's log, like all that the code prints.
"""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

_POLL_SECONDS = 1.0


def main(questions: int, answers: int) -> None:
    """Answer until nobody asks any more."""
    reward: Callable[..., Any] | None = None
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.set_inheritable(questions, False)
    os.set_inheritable(answers, False)
    with os.fdopen(questions, encoding="utf-8") as asked, os.fdopen(answers, "w", encoding="utf-8") as told:
        for line in asked:
            question = json.loads(line)
            try:
                if "load" in question:
                    reward = _load(question["load"])
                    answer: dict[str, Any] = {}
                else:
                    assert reward is not None
                    scores = reward(question["prompts"], question["completions"], **question["columns"])
                    answer = {"scores": [_plain(score) for score in scores]}
            except Exception as error:  # noqa: BLE001 - code of users may raise anything; the asker says what follows
                traceback.print_exc()
                answer = {"error": _said(error)}
            told.write(json.dumps(answer) + "\n")
            told.flush()


def _end_with(parent: int) -> None:
    """End this process and what it started when the one that asks is gone, also in the middle of an answer."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _load(path: str) -> Callable[..., Any]:
    """The function of a file."""
    spec = importlib.util.spec_from_file_location("user_reward", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["user_reward"] = module
    spec.loader.exec_module(module)
    found = vars(module).get("reward")
    if not callable(found):
        raise TypeError("it defines no function `reward`; write def reward(prompts, completions, **columns)")
    function: Callable[..., Any] = found
    return function


def _plain(score: Any) -> Any:
    """A number as JSON has it; numbers of numpy and torch too. None stands for no score."""
    return None if score is None else float(score)


def _said(error: Exception) -> str:
    """What was raised and, where it was in a file, at which line."""
    frames = traceback.extract_tb(error.__traceback__)
    line = frames[-1].lineno if len(frames) > 1 else None
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {error}{place}"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
