"""Bind, say where, serve until interrupted."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from brushwork.errors import ConfigError
from brushwork.serve.app import make_app, url_of
from brushwork.serve.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable

    from brushwork.serve.settings import ServeConfig


UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")


class _Hidden(logging.Formatter):
    """Lines without the folders of this machine and without the token, tracebacks too."""

    def __init__(self, places: Places) -> None:
        super().__init__("%(levelname)s: %(name)s: %(message)s")
        self.places = places

    def format(self, record: logging.LogRecord) -> str:
        """Return a line of the log."""
        return self.places.hide(super().format(record))


def journal(places: Places) -> None:
    """Write the server's log, and what Python warns of, to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Hidden(places))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    for name in UVICORN:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def listen(config: ServeConfig, started: Callable[[str], None]) -> None:
    """Serve; ``started`` is called with the address once it can be asked.

    Raises:
        ConfigError: The extra is not installed, or the address is taken.
    """
    try:
        import uvicorn
    except ImportError as error:
        message = "serve: uvicorn is not installed. Install the extra: pip install 'brushwork[serve]'"
        raise ConfigError(message) from error
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        message = f"serve: {config.host}:{config.port} cannot be listened on ({error.strerror}). Choose another --port."
        raise ConfigError(message) from error
    options = uvicorn.Config(
        make_app(config), log_level="warning", access_log=False, server_header=False, log_config=None
    )
    journal(Places(config))
    server = uvicorn.Server(options)

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():  # noqa: ASYNC110  (uvicorn has no event for it)
            await asyncio.sleep(0.02)
        if server.started:
            started(url_of(config, listening.getsockname()[1]))
        await serving

    asyncio.run(run())
