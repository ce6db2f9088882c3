"""Votes in the studio, ``/api/v1/votes``: a ballot of a run's pictures, its page, the answers, the count."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import FileResponse, HTMLResponse

from brushwork.errors import UserError
from brushwork.serve import names
from brushwork.voting import answers, ballot, counting, gathering, page, results
from brushwork.voting.serving import POLICY, Booth

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.serve.engine import Engine


class Ballots:
    """The ballots of the studio, by the names of their runs."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.folder = engine, engine.config.data / "ballots"
        self._booths: dict[str, Booth] = {}

    def known(self) -> list[str]:
        """Return the names of all ballots."""
        return sorted(each.name for each in self.folder.glob("*") if ballot.is_ballot(each))

    def make(self, run: str) -> None:
        """Make the ballot of a run that has none yet.

        Raises:
            UserError: The run has no pictures of base and tuned yet.
        """
        found = self.engine.trainings.find(run)
        if run not in self.known():
            items, cells = gathering.of_run(found)
            made = {"of": [run], "drawn": [gathering.settings_of(each.parent) for each in cells[0].paths]}
            examples = gathering.examples(found)
            ballot.make(items, cells, ballot.Settings(), self.folder / run, references=examples, made=made)

    def booth(self, name: str) -> Booth:
        """Return where a ballot's answers are taken."""
        if name not in self._booths:
            self._booths[name] = Booth(ballot.read(names.inside(self.folder, name, "vote", self.known())))
        return self._booths[name]

    def count(self, name: str) -> Path:
        """Count the answers that there are, and return the page about them."""
        folder = self.booth(name).folder
        given = answers.load(folder, [])
        return results.write(folder, given, counting.count(folder, given), folder.path / "results.html")

    def shown(self, name: str) -> dict[str, Any]:
        """Return what there is to say of a ballot."""
        folder = self.booth(name).folder
        raters = len(list(folder.answers.glob("*.json")))
        return {"name": name, "pairs": len(folder.ballot.pairs), "raters": raters}


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router, ballots = APIRouter(prefix="/api/v1/votes", tags=["votes"]), Ballots(engine)
    _ballots(router, ballots)
    _page(router, ballots)
    return router


def _ballots(router: APIRouter, ballots: Ballots) -> None:
    @router.get("")
    async def listed() -> list[dict[str, Any]]:
        """Return the votes."""
        return [ballots.shown(name) for name in ballots.known()]

    @router.post("", status_code=201)
    async def make(run: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
        """Make a blind vote of a run's pictures, base against tuned."""
        await asyncio.to_thread(ballots.make, run)
        return ballots.shown(run)

    @router.get("/{name}/results", response_class=FileResponse)
    async def counted(name: str) -> FileResponse:
        """Count the votes and return the page about them."""
        path = await asyncio.to_thread(ballots.count, name)
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": POLICY})


def _page(router: APIRouter, ballots: Ballots) -> None:
    @router.get("/{name}/page/", response_class=HTMLResponse)
    async def shown(name: str) -> HTMLResponse:
        """Return the page that raters see; it does not say which picture is whose."""
        html = page.render(ballots.booth(name).folder.ballot, "server")
        return HTMLResponse(html, headers={"content-security-policy": POLICY})

    @router.get("/{name}/page/pictures/{picture}.png", response_class=FileResponse)
    async def picture(name: str, picture: str) -> FileResponse:
        """Return a picture of a ballot."""
        folder = ballots.booth(name).folder
        if picture not in folder.ballot.pictures:
            message = f"picture: there is no {picture[:80]!r} on this ballot"
            raise UserError(message)
        return FileResponse(folder.pictures / f"{picture}.png", media_type="image/png")

    @router.get("/{name}/page/answers")
    async def known(name: str, rater: str) -> dict[str, Any]:
        """Return what a rater answered already, and on which sheet."""
        booth = ballots.booth(name)
        return await asyncio.to_thread(_alone, booth, lambda: booth.sheet_of(answers.name_of(rater)))

    @router.post("/{name}/page/answers")
    async def answer(name: str, rater: Annotated[str, Body()], answer: Annotated[dict[str, Any], Body()]) -> Any:
        """Store an answer."""
        booth = ballots.booth(name)
        stored = await asyncio.to_thread(_alone, booth, lambda: booth.take(answers.name_of(rater), answer))
        return {"stored": stored}


def _alone(booth: Booth, work: Any) -> Any:
    with booth.lock:
        return work()
