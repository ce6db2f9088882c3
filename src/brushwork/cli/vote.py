"""Let people vote, blindly, on which model's pictures are better."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from brushwork.voting.ballot import BallotFolder, Cell, Settings

LOOPBACK = "127.0.0.1"


@click.command()
@click.argument("what", metavar="MODEL MODEL...|RUN|DIR DIR...|BALLOT", nargs=-1, required=True)
@click.option("--prompts", metavar="FILE|NAME", help="What models draw: a text file or an embedded list.")
@click.option("--n", "number", type=click.IntRange(1), help="Pictures a prompt; default: 1.")
@click.option("--seed", type=click.IntRange(0), help="Of the first picture and of all shuffling; default: 0.")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps; default: 20, or what a model was made for.")
@click.option("--cfg", type=float, help="Guidance; default: 7, likewise.")
@click.option("--size", metavar="WxH", help="In pixels; default: the base's own.")
@click.option("--sampler", metavar="NAME", help="An A1111 name; default: DPM++ 2M, likewise.")
@click.option("--device", help="Where models draw: auto (the default), cpu, cuda, cuda:1, mps.")
@click.option("--questions", metavar="A,B", help="Out of prompt, style, overall; default: all three.")
@click.option("--about", metavar="TEXT", help="The style or subject: the question is which picture has more of TEXT.")
@click.option(
    "--references",
    type=click.Path(path_type=Path),
    help="Examples of the style or subject, a folder; default: a run's data.",
)
@click.option(
    "--design", type=click.Choice(["auto", "all", "balanced"]), help="Which models meet; auto: all up to three models."
)
@click.option("--pairs", "most", type=click.IntRange(1), help="At most so many pairs; default: every pair once.")
@click.option("--repeats", type=click.FloatRange(0, 1), help="The share of pairs that come twice; default: 0.1.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: a new folder in ballots/.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Write the page to FILE.html, or a folder; serve nothing."
)
@click.option("--host", default=LOOPBACK, help="Another address than this machine's own loopback.", show_default=True)
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Default: any that is free.")
@json_option
def command(what: tuple[str, ...], bundle: Path | None, host: str, port: int, as_json: bool, **given: Any) -> None:
    """Make a blind vote and serve its page, or write it as a bundle.

    Raters see pairs of pictures of the same prompt and seed, in shuffled order and on shuffled sides, and answer the
    questions with the mouse, a finger, or the arrow keys. WHAT is two or more models that draw the same prompts; a run,
    whose base and tuned pictures of `brushwork evaluate` are used; two or more folders of pictures with the same file
    names; or a ballot that was made before, to go on with it. Count with `brushwork votes tally`.
    """
    from brushwork.voting import ballot, page

    folder = _reopened(what, given) if ballot.is_ballot(Path(what[0])) else _made(what, given)
    told = {
        "ballot": str(folder.path),
        "hash": folder.ballot.hash,
        "pairs": len(folder.ballot.pairs),
        "questions": list(folder.ballot.questions),
        "items": list(folder.key.items),
        "equal_pictures": folder.key.made.get("equal_pictures", 0),
    }
    if bundle is not None:
        told["bundle"] = str(page.write_bundle(folder, bundle))
        _say(told, str(told["bundle"]), as_json=as_json)
        return
    _serve(folder, told, host, port, as_json=as_json)


def _serve(folder: BallotFolder, told: dict[str, Any], host: str, port: int, *, as_json: bool) -> None:
    from brushwork import progress
    from brushwork.voting import serving

    server = serving.Server(folder, host, port)
    _say({**told, "url": server.url}, server.url, as_json=as_json)
    if not server.local:
        progress.note("Everyone who is told this address can vote, over an unencrypted connection.")
    progress.note(f"Ctrl-C ends it; count the votes with: brushwork votes tally {folder.path}")
    serving.serve(server)


def _say(told: dict[str, Any], line: str, *, as_json: bool) -> None:
    from brushwork import progress
    from brushwork.wording import counted

    if as_json:
        print_json(told)
    else:
        click.echo(line)
    asked = counted(len(told["questions"]), "question")
    progress.note(f"{told['ballot']}: {counted(told['pairs'], 'pair')} of {len(told['items'])} models, {asked} each")
    if told["equal_pictures"]:
        progress.note(f"warning: {counted(told['equal_pictures'], 'pair')} show the same picture twice")


def _reopened(what: Sequence[str], given: dict[str, Any]) -> BallotFolder:
    from brushwork.voting import ballot

    said = [name for name, value in given.items() if value is not None]
    if len(what) > 1 or said:
        more = what[1] if len(what) > 1 else f"--{ {'most': 'pairs', 'number': 'n'}.get(said[0], said[0]) }"
        message = f"{what[0]} is a ballot that is made already, so {more} cannot apply. Leave it out, or make another."
        raise click.UsageError(message)
    return ballot.read(Path(what[0]))


def _made(what: Sequence[str], given: dict[str, Any]) -> BallotFolder:
    from brushwork.errors import ConfigError
    from brushwork.runs import check_free
    from brushwork.voting import ballot, gathering

    out = given["out"] or Path("ballots") / time.strftime("%Y-%m-%d-%H%M%S")
    if ballot.is_ballot(out):
        message = f"--out: {str(out)!r} is a ballot already. Go on with it: brushwork vote {out}"
        raise ConfigError(message)
    begun = {"drawn", ballot.PICTURES, ballot.KEY, ballot.ANSWERS}
    if out.is_dir() and not {each.name for each in out.iterdir()} <= begun:
        check_free(out)
    settings = _settings(given)
    items, cells, references = _gathered(what, given, settings, out)
    made = {"of": list(what), "drawn": [gathering.settings_of(path.parent) for path in cells[0].paths]}
    return ballot.make(items, cells, settings, out, references=references, made=made)


def _settings(given: dict[str, Any]) -> Settings:
    from brushwork.voting.ballot import Settings

    names = ("about", "design", "most", "repeats", "seed")
    said = {name: given[name] for name in names if given[name] is not None}
    if given["questions"] is not None:
        said["questions"] = tuple(name.strip() for name in given["questions"].split(",") if name.strip())
    return Settings(**said)


def _gathered(
    what: Sequence[str], given: dict[str, Any], settings: Settings, out: Path
) -> tuple[tuple[str, ...], list[Cell], list[Image]]:
    """Return the models' names, their pictures and the examples."""
    from brushwork import models
    from brushwork.errors import ConfigError
    from brushwork.voting import gathering

    examples = [] if given["references"] is None else gathering.examples_in(given["references"])
    if given["references"] is not None and "style" not in settings.questions:
        message = "--references: they stand beside the question 'style', which is not among the questions."
        raise ConfigError(message)
    folders = [Path(each) for each in what]
    if all(gathering.is_pictures(folder) for folder in folders):
        _refuse_drawing(given, "folders of pictures are compared as they are")
        return *gathering.of_folders(folders, need_prompts="prompt" in settings.questions), examples
    run = models.as_run(what[0]) if len(what) == 1 else None
    if run is not None and given["prompts"] is None:
        _refuse_drawing(given, "a run is compared by the pictures of its own validation prompts")
        return *gathering.of_run(run), examples or gathering.examples(run)
    if run is not None and (run.config.revision or run.config.base_config):
        message = (
            f"--prompts: the base of {what[0]} has a revision or a base_config of its own; vote on the run's pictures."
        )
        raise ConfigError(message)
    names = (run.config.base, what[0]) if run is not None else what
    if len(names) == 1:
        message = f"{what[0]!r} alone has nothing to be compared with. Name another model, or a finished run."
        raise ConfigError(message)
    runs = [found for found in map(models.as_run, names) if found]
    examples = examples or (gathering.examples(runs[-1]) if runs else [])
    return *gathering.of_models(names, _drawing(given), out / "drawn"), examples


def _drawing(given: dict[str, Any]) -> Any:
    from brushwork.cli.generate import DRAWN_WITH, parse_size
    from brushwork.prompts import resolve
    from brushwork.voting.gathering import Drawing

    width, height = parse_size(given["size"])
    said = {name: given[option] for option, name in DRAWN_WITH.items() if given[option] is not None}
    prompts = tuple(resolve(given["prompts"] or "target", key="--prompts"))
    said |= {name: value for name, value in (("width", width), ("height", height)) if value is not None}
    return Drawing(prompts, given["number"] or 1, given["seed"] or 0, said, given["device"] or "auto")


def _refuse_drawing(given: dict[str, Any], because: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: One was given.
    """
    from brushwork.errors import ConfigError

    options = {"prompts": "prompts", "number": "n", "steps": "steps", "cfg": "cfg", "size": "size"}
    options |= {"sampler": "sampler", "device": "device"}
    said = [f"--{option}" for name, option in options.items() if given[name] is not None]
    if said:
        message = f"{because}, so {', '.join(said)} cannot apply. Leave it out, or name models to draw with."
        raise ConfigError(message)
