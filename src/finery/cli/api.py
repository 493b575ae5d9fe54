"""`finery api`: the REST API and the web UI, as a process of its own."""

import uvicorn

from finery.api.app import create_app
from finery.cli.parent import ParentOption, end_with
from finery.core import log
from finery.core.settings import Settings


def api(parent: ParentOption = None) -> None:
    """Run the API alone."""
    log.configure()
    end_with(parent)
    settings = Settings()
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=2,
        server_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(config).run()
