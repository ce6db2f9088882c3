"""The page that raters see, and bundles of it that need no server.

    render(folder.ballot, mode="server")
    write_bundle(folder, Path("vote.html"))       # one file with everything in it; or a folder, without .html

The page knows the ballot and nothing of the key. A bundle computes the ballot's hash from what it really shows, and, in
one file, the hash of each picture: one that was changed says so or is refused when the votes are counted.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from brushwork import __version__
from brushwork.runs import check_free, replacing

if TYPE_CHECKING:
    from jinja2 import Environment

    from brushwork.voting.ballot import Ballot, BallotFolder

ASSETS = Path(__file__).parent.parent / "assets" / "vote"
REPORT = ASSETS.parent / "report"
Mode = Literal["server", "bundle"]


def environment() -> Environment:
    """Return the templates of this package."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(ASSETS)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(ballot: Ballot, mode: Mode, pictures: dict[str, str] | None = None) -> str:
    """Return the page.

    Args:
        ballot: What is shown.
        mode: Where answers go: to the server that sent the page, or into the browser's storage and a download.
        pictures: Data URIs by name; without them the page loads ``pictures/<name>.png`` beside it.
    """
    context: dict[str, Any] = {
        "style": (ASSETS / "vote.css").read_text("utf-8"),
        "script": (ASSETS / "sha256.js").read_text("utf-8") + (ASSETS / "vote.js").read_text("utf-8"),
        "ballot": ballot.text,
        "pictures": json.dumps(pictures or {}, separators=(",", ":")),
        "mode": mode,
        "count": len(ballot.pairs),
        "questions": len(ballot.questions),
        "version": __version__,
    }
    return environment().get_template("vote.html.jinja").render(**context)


def write_bundle(folder: BallotFolder, out: Path) -> Path:
    """Write the page for raters elsewhere and return where it begins: ``out`` itself, or ``index.html`` in it.

    Raises:
        UserError: ``out`` is a folder that is not free.
    """
    if out.suffix == ".html":
        uris = {name: _uri(folder.pictures / f"{name}.png") for name in sorted(folder.ballot.pictures)}
        with replacing(out) as temporary:
            temporary.write_text(render(folder.ballot, "bundle", uris), "utf-8")
        return out
    check_free(out)
    with replacing(out) as temporary:
        (temporary / "pictures").mkdir(parents=True)
        for name in sorted(folder.ballot.pictures):
            shutil.copyfile(folder.pictures / f"{name}.png", temporary / "pictures" / f"{name}.png")
        (temporary / "index.html").write_text(render(folder.ballot, "bundle"), "utf-8")
    return out / "index.html"


def _uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
