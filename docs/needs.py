"""Writes what the recipes of today need into ``docs/families.md``: forecasts on the published architectures.

python docs/needs.py                # a few minutes
"""

from __future__ import annotations

from pathlib import Path

from brushwork import config
from brushwork.forecast import known
from brushwork.forecast.estimate import size

DOCS = Path(__file__).parent
RECIPES = ("sdxl-lora", "sd3.5-lora", "flux.1-lora", "flux.2-klein-lora")
BEGIN, END = "<!-- docs/needs.py writes this -->", "<!-- to here -->"
HEAD = "| recipe | pixels | while encoding | while training | weights to fetch | a checkpoint | the adapter |"


def row(name: str) -> str:
    """Return a recipe's line of the table."""
    path = DOCS.parent / "recipes" / f"{name}.yaml"
    said = known.of_recipe(path)
    bytes_ = [*(phase.total for phase in said.phases), *said.disk.values()]
    pixels = getattr(config.load(path).data, "resolution", "")
    return f"| `{name}` | {pixels} | {' | '.join(size(each) for each in bytes_)} |"


def main() -> None:
    """Write the table between its marks."""
    page = DOCS / "families.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    table = "\n".join([HEAD, "|" + " --- |" * 7, *map(row, RECIPES)])
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
