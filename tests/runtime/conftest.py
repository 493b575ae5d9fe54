"""Fixtures of the child's tests: attempts of the tiny model."""

from tests.training.conftest import bench, models_home  # noqa: F401
