"""The data card of a built data set: what it holds, where it comes from, what was left out and why.

It says nothing about when or for how long it was built, so that the same rows give the same card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from brushwork.curate.build.output import Tally
    from brushwork.curate.build.selection import Selection
    from brushwork.curate.build.settings import BuildConfig

SHOWN = 20
EVERY_ROW = (
    "Every row of the metadata is in `manifest.parquet`, with its fate, where the picture came from in the end "
    "(`final_url`), and the hash of the file that was fetched (`sha256`)."
)
LICENCES = (
    "As the metadata state them; nobody checked. A picture keeps its own licence whatever data set it is in, and most "
    "of the web states none."
)
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""The hub's words for sizes."""


def card(config: BuildConfig, selection: Selection, counts: Mapping[str, int], tally: Tally) -> str:
    """Return the data card, in Markdown."""
    kept, rows = counts.get("kept", 0), sum(selection.rows)
    size = next((word for limit, word in SIZES if kept < limit), "n>10M")
    settings = config.model_dump(mode="json", include={"filter", "fetch", "image", "output"}, exclude_defaults=True)
    lines = [
        "---",
        "task_categories: [text-to-image]",
        f"size_categories: ['{size}']",
        "---",
        "",
        f"# {kept} pictures with captions",
        "",
        f"`brushwork data build` kept {_share(kept, rows)} of {rows} rows: {tally.bytes / 1e6:.1f} MB of pictures.",
        "",
        _layout(config),
        "",
        "## What became of the rows",
        "",
        *_table(("fate", "rows", "share"), [(name, str(count), _share(count, rows)) for name, count in counts.items()]),
        "",
        EVERY_ROW,
        "",
        "## What was asked for",
        "",
        "What is not named here was left at its default; `build.yaml` has everything.",
        "",
        "```yaml",
        yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip() if settings else "{}",
        "```",
        "",
        "## Sources",
        "",
        *_table(
            ("metadata", "rows"),
            [(path.name, str(count)) for path, count in zip(selection.tables, selection.rows, strict=True)],
        ),
        "",
        *_counted("host of the picture", tally.hosts),
        "",
        "## Licences",
        "",
        LICENCES,
        "",
        *_counted("licence", tally.licenses),
        "",
        _opt_outs(config),
    ]
    return "\n".join(lines) + "\n"


def _layout(config: BuildConfig) -> str:
    if config.output.format == "folder":
        return "`metadata.jsonl` names each picture and its caption: `brushwork train --data` takes this folder."
    return "The shards (`00000.tar` and so on) are WebDataset: a picture, its caption in `.txt`, and more in `.json`."


def _opt_outs(config: BuildConfig) -> str:
    if config.fetch.honour_opt_outs:
        return (
            "Pictures whose servers reserve them (`X-Robots-Tag` with noai, noimageai, noindex, noimageindex or none; "
            "`TDM-Reservation: 1`; `Content-Usage: train-ai=n`) were left out."
        )
    return "Opt-outs in the servers' answers were not honoured."


def _share(count: int, rows: int) -> str:
    return f"{100 * count / rows:.1f} %" if rows else "0 %"


def _counted(what: str, counts: Counter[str]) -> list[str]:
    """Return a table of the most frequent ones, with a last row for the others."""
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    rows = [(name, str(count)) for name, count in ordered[:SHOWN]]
    others = ordered[SHOWN:]
    if others:
        rows.append((f"{len(others)} others", str(sum(count for _, count in others))))
    return _table((what, "pictures"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines]
