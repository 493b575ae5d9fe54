"""What the children of the training tests have in common: every trainer, imported and not used."""

from importlib import import_module

from finery.training.trl.engine import TRAINERS

for _name in set(TRAINERS.values()):
    import_module(f"finery.training.trl.{_name}")
