"""What a process of `finery up` does when that is gone."""

import os
import threading
import time
from typing import Annotated

import typer

ParentOption = Annotated[int | None, typer.Option(help="End when this process is no longer the parent.")]


def end_with(parent: int | None) -> None:
    """End this process when `finery up` was killed: nobody else would."""
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
