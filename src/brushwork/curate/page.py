"""The page of a data set's report: one HTML file that needs no network.

write(report.examine(captioned.Config(path="engravings")), Path("report.html"))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import __version__, contact, images, wording
from brushwork.errors import DataError
from brushwork.runs import replacing
from brushwork.thumbnails import data_uri

if TYPE_CHECKING:
    from brushwork.curate.report import Examined
    from brushwork.readers import Rows

ASSETS = Path(__file__).parent.parent / "assets"
SIDE, SHOWN = 160, 48
"""Pixels of a thumbnail, and how many the contact sheet has."""
PAIRS = 24
"""So many pairs of pictures that look alike are shown."""
EXAMPLES = 8
"""So many pictures are shown for a finding that one can see."""
VISIBLE = {"blank", "white", "text", "small", "cropped"}


def write(told: Examined, path: Path) -> Path:
    """Write the page and return its path."""
    page = render(told)
    with replacing(path) as temporary:
        temporary.write_text(page, "utf-8")
    return path


def render(told: Examined) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS / "data-report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(wording, name) for name in ("grouped", "counted", "size")}
    return environment.get_template("report.html.jinja").render(**_context(told))


def _context(told: Examined) -> dict[str, Any]:
    summary = told.summary
    levels = [each.level for each in told.findings]
    return {
        "style": (ASSETS / "report" / "report.css").read_text("utf-8"),
        "own_style": (ASSETS / "data-report" / "report.css").read_text("utf-8"),
        "version": __version__,
        "name": Path(told.path).name or told.path,
        "told": summary,
        "lead": _lead(told),
        "counts": {level: levels.count(level) for level in ("error", "warning", "note") if level in levels},
        "findings": [_shown(told, index) for index in range(len(told.findings))],
        "exact": _pairs(told, "exact"),
        "near": _pairs(told, "near"),
        "leaks": _leaks(told),
        "most": max((each["count"] for each in summary["buckets"]), default=1),
        "contact": [
            {"uri": uri, "caption": told.captions[place] or "", "name": told.looks[place].name}
            for place in contact.spread(len(told.looks), SHOWN)
            if (uri := _thumbnail(told.rows, place))
        ],
    }


def _lead(told: Examined) -> str:
    summary = told.summary
    unreadable = summary["pictures"] - summary["readable"]
    captions = summary["captions"]
    said = [
        f"{wording.counted(summary['pictures'], 'picture')} ({wording.size(summary['bytes'])})",
        f"{wording.counted(captions['different'], 'different caption')}",
    ]
    broken = f" {wording.grouped(unreadable)} cannot be read." if unreadable else ""
    return f"{' with '.join(said)}.{broken}"


def _shown(told: Examined, index: int) -> dict[str, Any]:
    """Return a finding with pictures of what it is about, where one can see it."""
    finding = told.findings[index]
    wanted = set(finding.names[:EXAMPLES]) if finding.kind in VISIBLE else set()
    places = [place for place, look in enumerate(told.looks) if look.name in wanted] if wanted else []
    return {
        "level": finding.level,
        "kind": finding.kind,
        "message": (finding.message[0].upper() + finding.message[1:]).rstrip("."),
        "names": finding.names[: 4 * EXAMPLES],
        "more": max(0, finding.count - 4 * EXAMPLES) if finding.names else 0,
        "pictures": [{"uri": uri, "name": told.looks[at].name} for at in places if (uri := _thumbnail(told.rows, at))],
    }


def _pairs(told: Examined, kind: str) -> dict[str, Any]:
    every: list[tuple[int, int]] = getattr(told.repeats, kind)
    shown = [
        [_side(told.rows, place, told.looks[place].name, told.captions[place]) for place in (first, place)]
        for place, first in every[:PAIRS]
    ]
    return {"count": len(every), "pairs": shown}


def _leaks(told: Examined) -> dict[str, Any]:
    shown = []
    for held_out, place, _ in told.leaks[:PAIRS]:
        assert told.against_rows is not None
        left = _side(told.against_rows, held_out, told.against[held_out].name, "validation")
        shown.append([left, _side(told.rows, place, told.looks[place].name, "training")])
    return {"count": len(told.leaks), "pairs": shown}


def _side(rows: Rows, place: int, name: str, text: str | None) -> dict[str, str]:
    return {"uri": _thumbnail(rows, place), "name": name, "text": text or ""}


def _thumbnail(rows: Rows, place: int) -> str:
    """Return a small picture as a data URI; "" for one that cannot be read."""
    row = rows[place]
    try:
        return data_uri(images.decode(row.image.read(), name=row.name), SIDE)
    except DataError:
        return ""
