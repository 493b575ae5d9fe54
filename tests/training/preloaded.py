"""What the children of the training tests have in common: every trainer, imported and not used."""

from importlib import import_module

for _name in ("grpo", "sft"):
    import_module(f"finery.training.trl.{_name}")
