"""Breaks training on purpose, in any process that has this folder on PYTHONPATH.

Rows that hold `%` give a loss of NaN; at rows that hold `@` a process hangs for ever.

Python imports this file by itself. It waits for the engine and wraps its step, so that the child that is tested is the
real one, started as always.
"""

import importlib.abc
import importlib.machinery
import sys
import time
from types import ModuleType
from typing import Any

ENGINE = "finery.training.trl.steps"
NAN, HANG = "%", "@"


class Saboteur(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the engine's steps and wraps what trains."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != ENGINE:
            return None
        self._spec = importlib.machinery.PathFinder.find_spec(name, path)
        return importlib.machinery.ModuleSpec(name, self, origin=self._spec.origin)

    def create_module(self, spec: Any) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._spec.origin
        self._spec.loader.exec_module(module)
        sabotage(vars(module)["ExactTrainer"])


def sabotage(trainer: Any) -> None:
    """Have a batch with a bad row go wrong."""
    base = trainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        texts = self.processing_class.batch_decode(inputs["input_ids"])
        while any(HANG in text for text in texts):
            time.sleep(1)
        loss = base(self, model, inputs, *args, **kwargs)
        if not any(NAN in text for text in texts):
            return loss
        bad = loss * float("nan")
        self.gate.see_loss(bad)
        return bad

    trainer.training_step = training_step


sys.meta_path.insert(0, Saboteur())
