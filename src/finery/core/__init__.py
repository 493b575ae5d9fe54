"""The kernel: what every slice stands on and what depends on no slice.

Owns the wire types (spec, events), the run-directory contract (rundir, checkpoints), errors, registries,
references, the database, the object store, settings, secrets, the REST client, the clock and logging.
`spec`, `events`, `rundir`, `checkpoints`, `hooks` and `errors` import with pydantic and orjson alone.
"""
