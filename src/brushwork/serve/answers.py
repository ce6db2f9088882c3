"""Errors as answers: each kind with its status, in the shape of the face that was asked, without folders of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from brushwork.errors import BrushworkError, UserError, listing
from brushwork.serve.line import Full
from brushwork.serve.store import FULL, DiskFull, is_full

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    from brushwork.serve.places import Places
    from brushwork.serve.settings import ServeConfig

RETRY_SECONDS = "5"
INVALID = "invalid_request_error"


class Answers:
    """What the server says when it does not do what was asked."""

    def __init__(self, config: ServeConfig, places: Places) -> None:
        self.config, self.places = config, places

    def answer(self, request: Request, status: int, kind: str, message: str, param: str | None = None) -> JSONResponse:
        """Return an answer in the shape of a face."""
        from fastapi.responses import JSONResponse

        path, message = request.url.path, _sendable(self.places.hide(message))
        param = _sendable(self.places.hide(param)) if param is not None else None
        headers = {"retry-after": RETRY_SECONDS} if status == 429 else {}  # noqa: PLR2004  (Too Many Requests)
        if path.startswith("/v1/"):
            body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": kind}}
        elif path.startswith(("/sdapi/", "/controlnet/")):
            body = {"error": kind, "detail": message, "body": "", "errors": message}
        else:
            body = {"error": {"type": kind, "message": message, "param": param}}
        return JSONResponse(body, status, headers=headers)

    def refuse(self, request: Request, message: str, param: str | None) -> JSONResponse:
        """Return the answer to a request that was wrong."""
        status = 400 if request.url.path.startswith("/v1/") else 422
        return self.answer(request, status, INVALID, message, param)

    def of_ours(self, request: Request, error: BrushworkError) -> JSONResponse:
        """Return the answer to an error that was raised on purpose."""
        message = str(error)
        if isinstance(error, Full):
            return self.answer(request, 429, "queue_full", message)
        if isinstance(error, DiskFull):
            return self.answer(request, 507, "disk_full", message)
        if isinstance(error, UserError):
            return self.refuse(request, message, self.places.hide(message).partition(":")[0][:40])
        return self.answer(request, 500, type(error).__name__, message)

    def register(self, app: FastAPI) -> None:
        """Let an application answer so."""
        from fastapi.exceptions import RequestValidationError
        from starlette.exceptions import HTTPException
        from starlette.requests import ClientDisconnect

        @app.exception_handler(BrushworkError)
        async def ours(request: Request, error: BrushworkError) -> JSONResponse:
            return self.of_ours(request, error)

        @app.exception_handler(RequestValidationError)
        async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
            told = [f"{'.'.join(map(str, each['loc'][1:]))}: {_message(each)}" for each in error.errors()]
            first = ".".join(map(str, error.errors()[0]["loc"][1:])) or None
            return self.refuse(request, listing(told, 5), first)

        @app.exception_handler(ValidationError)
        async def beyond(request: Request, error: ValidationError) -> JSONResponse:
            """Refuse what the face's own form allows and a job does not."""
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            return self.refuse(request, f"{name}: {_message(first)}", name)

        @app.exception_handler(ClientDisconnect)
        async def cut(request: Request, error: ClientDisconnect) -> JSONResponse:
            """Answer a body of unknown length that went beyond the limit: the guard cuts it off there."""
            del error
            most = self.config.limits.body
            return self.answer(request, 413, "too_large", f"body: more than the limit of this server, {most} bytes")

        @app.exception_handler(HTTPException)
        async def http(request: Request, error: HTTPException) -> JSONResponse:
            kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
            return self.answer(request, error.status_code, kind, str(error.detail))

        self._faults(app)

    def _faults(self, app: FastAPI) -> None:
        @app.exception_handler(OSError)
        async def disk(request: Request, error: OSError) -> JSONResponse:
            if not is_full(error):
                raise error
            return self.answer(request, 507, "disk_full", FULL)

        @app.exception_handler(Exception)
        async def fault(request: Request, error: Exception) -> JSONResponse:
            del error  # it is in the server's log
            return self.answer(request, 500, "server_error", "A fault of the server; its log says more.")


def _message(error: Any) -> str:
    """Return what pydantic says is wrong, in our own words where a validator of ours said it."""
    return str(error["msg"]).removeprefix("Value error, ")


def _sendable(text: str) -> str:
    """Return a text that UTF-8 can hold: JSON can bring halves of characters, which are no text."""
    return text.encode(errors="backslashreplace").decode()
