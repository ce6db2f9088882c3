"""What stands before every route: tokens, hosts, origins, sizes. Asked in process, of every route that there is."""

from __future__ import annotations

import asyncio
import base64
import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.routing import Route

from brushwork.serve.app import make_inner
from brushwork.serve.faces import studio
from brushwork.serve.guard import Guard
from brushwork.serve.settings import Limits, ServeConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastapi import FastAPI

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105
COOKIE = hmac.new(TOKEN.encode(), b"brushwork", "sha256").hexdigest()
OURS = "http://127.0.0.1:7860"


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., ServeConfig]:
    def make(**changes: Any) -> ServeConfig:
        folders = {"runs": tmp_path / "runs", "data": tmp_path / "served", "datasets": tmp_path / "datasets"}
        return ServeConfig(**{**folders, **changes})

    return make


def ask(config: ServeConfig, method: str, path: str, *, base: str = OURS, **options: Any) -> httpx.Response:
    """Ask the whole application, its engine started, once."""

    async def go() -> httpx.Response:
        inner = make_inner(config)
        async with inner.router.lifespan_context(inner):
            transport = httpx.ASGITransport(Guard(inner, config))
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                return await client.request(method, path, **options)

    return asyncio.run(go())


def inner(routes: Iterable[Any]) -> Iterator[Route]:
    """Yield all routes; newer versions of FastAPI keep included routers as they are."""
    for each in routes:
        if isinstance(each, Route):
            yield each
        elif hasattr(each, "original_router"):
            yield from inner(each.original_router.routes)


def routes(app: FastAPI) -> list[tuple[str, str]]:
    documented = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    every = [(method, each.path) for each in inner(app.routes) for method in each.methods or ()]
    assert len(every) >= len(documented)
    assert ("GET", "/studio/{name}") in every, "also what is not documented"
    static = [("GET", f"/studio/{each.name}") for each in studio.FOLDER.iterdir()]
    return sorted({*every, *documented, *static, ("GET", "/"), ("GET", "/openapi.json"), ("GET", "/nix")})


def test_without_the_token_no_route_answers_but_the_one_that_says_it_is_alive(
    config: Callable[..., ServeConfig],
) -> None:
    guarded = config(host="0.0.0.0", token=TOKEN)  # noqa: S104
    app = make_inner(guarded)

    async def go() -> dict[tuple[str, str], int]:
        transport = httpx.ASGITransport(Guard(app, guarded))
        async with httpx.AsyncClient(transport=transport, base_url=OURS) as client:
            return {(m, path): (await client.request(m, path)).status_code for m, path in routes(app)}

    found = asyncio.run(go())
    assert len(found) > 60
    assert {key for key, status in found.items() if status != 401} == {("GET", "/healthz")}
    app.state.engine.store.close()


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, "/api/v1/models", 200),
        ({"authorization": "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()}, "/sdapi/v1/options", 200),
        ({"cookie": f"brushwork={COOKIE}"}, "/api/v1/models", 200),
        ({"cookie": f"brushwork={TOKEN}"}, "/api/v1/models", 401),
        ({}, f"/?token={TOKEN}", 303),
        ({}, f"/api/v1/models?token={TOKEN}", 401),
        ({}, "/?token=guess", 401),
        ({"authorization": "Bearer guess"}, "/api/v1/models", 401),
        ({"authorization": "Basic"}, "/sdapi/v1/options", 401),
        ({"authorization": ""}, "/sdapi/v1/options", 401),
        ({"authorization": "Basic !!!"}, "/sdapi/v1/options", 401),
        ({"cookie": "brushwork=; a=\x7f"}, "/api/v1/models", 401),
    ],
)
def test_tokens(config: Callable[..., ServeConfig], headers: dict[str, str], path: str, status: int) -> None:
    assert ask(config(token=TOKEN), "GET", path, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost:1", 200),
        ("[::1]:7860", 200),
        ("studio.lan", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_only_names_of_this_server_are_answered(config: Callable[..., ServeConfig], host: str, status: int) -> None:
    answer = ask(config(allowed_hosts=("studio.lan",)), "GET", "/api/v1/limits", headers={"host": host})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": OURS}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_another_sites_page_changes_nothing(
    config: Callable[..., ServeConfig], headers: dict[str, str], status: int
) -> None:
    assert ask(config(), "POST", "/api/v1/catalogue/refresh", headers=headers).status_code == status


def test_a_body_beyond_the_limit_is_refused_with_the_limit(config: Callable[..., ServeConfig]) -> None:
    small = config(limits=Limits(body=1000))
    answer = ask(small, "POST", "/api/v1/jobs", content=b"x" * 1001)
    assert answer.status_code == 413
    assert "1000 bytes" in answer.json()["detail"]


def test_every_answer_has_the_headers_that_keep_a_browser_from_guessing(config: Callable[..., ServeConfig]) -> None:
    for path in ("/", "/api/v1/models", "/nothing"):
        headers = ask(config(), "GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "path",
    [
        "/studio/..%2fsettings.py",
        "/studio/%2e%2e/guard.py",
        "/api/v1/images/..%2f..%2fhistory.sqlite",
        "/api/v1/images/history",
        "/api/v1/datasets/..%2f..",
        "/api/v1/datasets/engravings/..%2f..%2fREADME.md",
        "/api/v1/runs/..%2f../report",
        "/api/v1/runs/../weights",
        "/sdapi/v1/cmd-flags",
        "/sdapi/v1/server-kill",
        "/docs",
    ],
)
def test_no_path_leads_out(config: Callable[..., ServeConfig], path: str) -> None:
    answer = ask(config(), "GET", path)
    assert answer.status_code in (404, 405, 422)
    assert str(Path.home()) not in answer.text


def test_no_answer_names_a_folder_of_this_machine(config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    here = config(models=(tmp_path / "models",))
    for path in ("/api/v1/models", "/api/v1/datasets", "/sdapi/v1/sd-models", "/sdapi/v1/options", "/v1/models"):
        assert str(tmp_path) not in ask(here, "GET", path).text


def test_off_this_machine_there_must_be_a_token_worth_the_name() -> None:
    for host in ("0.0.0.0", "192.168.1.7", "::", "studio.lan"):  # noqa: S104
        with pytest.raises(ValidationError, match="can be reached from other machines"):
            ServeConfig(host=host)
    with pytest.raises(ValidationError, match="5 characters can be guessed"):
        ServeConfig(token="short")  # noqa: S106
    assert ServeConfig(host="::1").local
    assert "nobody" not in repr(ServeConfig(token=TOKEN))
