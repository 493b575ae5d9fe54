"""The processes of one attempt: `python -m finery.runtime RUN_DIR` works, `finery.runtime.supervisor` watches it.

Owns what happens between a run directory and an executor: locks, signals, control commands, provenance, the end.
Knows no server, no database and no network.
"""
