"""What the children of the training tests have in common: every trainer, imported and not used."""

import gc
from importlib import import_module

from finery.training.trl.engine import TRAINERS

for _name in set(TRAINERS.values()):
    import_module(f"finery.training.trl.{_name}")
gc.collect()
gc.freeze()
"""What modules hold is no garbage: looking through it took each run a third of a second."""
