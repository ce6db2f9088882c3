"""The application: the guard in front, the faces behind it, the engine below.

app = make_app(ServeConfig())                   # any ASGI server runs it; brushwork serve takes uvicorn
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from typing import TYPE_CHECKING

from brushwork import __version__
from brushwork.serve import surroundings
from brushwork.serve.answers import Answers
from brushwork.serve.engine import Engine
from brushwork.serve.guard import Guard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from brushwork.serve.settings import ServeConfig


def make_app(config: ServeConfig) -> ASGIApp:
    """Return the application; it starts and stops its engine by itself (ASGI lifespan)."""
    surroundings.be_quiet()
    return Guard(make_inner(config), config)


def make_inner(config: ServeConfig) -> FastAPI:
    """Return the application without its guard."""
    from fastapi import FastAPI

    engine = Engine(config)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        yield
        await engine.stop()

    app = FastAPI(title="brushwork", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.engine = engine
    Answers(config, engine.places).register(app)
    for face in faces():
        app.include_router(importlib.import_module(face).make_router(engine))
    return app


def faces() -> list[str]:
    """Return the modules that have routes: all in ``brushwork.serve.faces``."""
    from brushwork.serve import faces as package

    return [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]


def url_of(config: ServeConfig, port: int) -> str:
    """Return the address to open in a browser; with a token it is still to be named there, as ``?token=TOKEN``."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{port}/"
