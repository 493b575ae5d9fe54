"""For the tests of the platform and of its web UI alike: how many processes run them, and a running platform."""

import os

pytest_plugins = ["tests.platform", "tests.nvml"]
"""Fixtures of a running platform, and of GPUs that are not there."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, at most four: many tests wait for processes of their own."""
    return min(4, (os.cpu_count() or 1) + 1)
