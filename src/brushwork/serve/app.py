"""The application: the guard in front, the faces behind it, the engine below.

app = make_app(ServeConfig())                   # any ASGI server runs it; brushwork serve takes uvicorn
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from brushwork import __version__
from brushwork.errors import BrushworkError, UserError, listing
from brushwork.serve.engine import Engine
from brushwork.serve.guard import Guard
from brushwork.serve.line import Full
from brushwork.serve.store import FULL, DiskFull, is_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from starlette.types import ASGIApp

    from brushwork.serve.settings import ServeConfig

RETRY_SECONDS = "5"


def make_app(config: ServeConfig) -> ASGIApp:
    """Return the application; it starts and stops its engine by itself (ASGI lifespan)."""
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
    _answer_errors(app)
    for face in faces():
        app.include_router(importlib.import_module(face).make_router(engine))
    return app


def faces() -> list[str]:
    """Return the modules that have routes: all in ``brushwork.serve.faces``."""
    from brushwork.serve import faces as package

    return [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]


def _answer_errors(app: FastAPI) -> None:
    """Answer each kind of error with its status, in the shape of the face that was asked."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    hide = app.state.engine.places.hide

    def answer(request: Request, status: int, kind: str, message: str, param: str | None = None) -> JSONResponse:
        path, message = request.url.path, _sendable(hide(message))
        param = _sendable(param) if param is not None else None
        headers = {"retry-after": RETRY_SECONDS} if status == 429 else {}  # noqa: PLR2004  (Too Many Requests)
        if path.startswith("/v1/"):
            body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": kind}}
        elif path.startswith("/sdapi/"):
            body = {"error": kind, "detail": message, "body": "", "errors": message}
        else:
            body = {"error": {"type": kind, "message": message, "param": param}}
        return JSONResponse(body, status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        told = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
        first = ".".join(map(str, error.errors()[0]["loc"][1:])) or None
        status = 400 if request.url.path.startswith("/v1/") else 422
        return answer(request, status, "invalid_request_error", listing(told, 5), first)

    @app.exception_handler(ValidationError)
    async def beyond(request: Request, error: ValidationError) -> JSONResponse:
        """Refuse what the face's own form allows and a job does not."""
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        status = 400 if request.url.path.startswith("/v1/") else 422
        return answer(request, status, "invalid_request_error", f"{name}: {first['msg']}", name)

    @app.exception_handler(ClientDisconnect)
    async def cut(request: Request, error: ClientDisconnect) -> JSONResponse:
        """Answer a body of unknown length that went beyond the limit: the guard cuts it off there."""
        del error
        most = app.state.engine.config.limits.body
        return answer(request, 413, "too_large", f"body: more than the limit of this server, {most} bytes")

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> JSONResponse:
        if not is_full(error):
            raise error
        return answer(request, 507, "disk_full", FULL)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        del error  # it is in the server's log
        return answer(request, 500, "server_error", "A fault of the server; its log says more.")

    @app.exception_handler(BrushworkError)
    async def refused(request: Request, error: BrushworkError) -> JSONResponse:
        if isinstance(error, Full):
            return answer(request, 429, "queue_full", str(error))
        message = str(error)
        if isinstance(error, DiskFull):
            return answer(request, 507, "disk_full", message)
        if isinstance(error, UserError):
            status = 400 if request.url.path.startswith("/v1/") else 422
            return answer(request, status, "invalid_request_error", message, message.partition(":")[0][:40])
        return answer(request, 500, type(error).__name__, message)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
        return answer(request, error.status_code, kind, str(error.detail))


def _sendable(text: str) -> str:
    """Return a text that UTF-8 can hold: JSON can bring halves of characters, which are no text."""
    return text.encode(errors="backslashreplace").decode()


def url_of(config: ServeConfig, port: int) -> str:
    """Return the address to open in a browser."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{port}/" + (f"?token={config.token}" if config.token else "")
