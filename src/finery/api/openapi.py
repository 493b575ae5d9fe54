"""`python -m finery.api.openapi`: prints the OpenAPI document that the web UI's types are generated from."""

import sys
import tempfile
from pathlib import Path

import orjson

from finery.api.app import create_app
from finery.core.settings import Settings


def document() -> bytes:
    """The document as JSON, with sorted keys so that a diff shows only what changed."""
    with tempfile.TemporaryDirectory() as home:
        app = create_app(Settings(home=Path(home), database_url="sqlite://"))
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(app.openapi(), option=options)


if __name__ == "__main__":
    sys.stdout.buffer.write(document())
