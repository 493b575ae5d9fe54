"""Fixtures of the numeric tests: those of the training tests."""

from tests.training.conftest import _one_thread, bench, models_home

__all__ = ["_one_thread", "bench", "models_home"]
