"""Logging of the platform's own processes: one line per event, to stderr."""

import logging


def configure(level: int = logging.INFO) -> None:
    """Set the root logger up once, for a process that Finery owns."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
