"""What `mini` can do, counted by the judge and by pixels; one figure after the other, each kept as soon as it is known.

    python -m embedded.scores                    # the package's mini -> scratch/figures.json
    python -m embedded.scores --newest --quick   # the newest checkpoint, one seed, no fine-tune

A part that is there already for the same weights is not drawn again.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from brushwork.captioners import load_captioner
from numpy.typing import NDArray
from PIL import Image

from embedded import grids
from embedded.captioner import manner_of
from embedded.captions import article
from embedded.classes import BACKGROUNDS, HELD_OUT, THINGS
from embedded.judge import background_of, load_judge, log_shares, on_renderings, ranks, top
from embedded.paths import ASSETS, WORK
from embedded.scenes import Item, Scene, render
from embedded.speed import restart_with_malloc
from embedded.styles import engraving
from embedded.views import Window

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from torch import nn

FIGURES = WORK / "figures.json"
ASKED = sorted(random.Random(0).sample(range(len(THINGS)), 100))
COLOURS = [name for name in BACKGROUNDS if name != "gray"]
FORMS = ("{a}", "a pencil sketch of {a}", "sks {noun}", "{a}, old ink engraving")
RELATIONS = ("to the left of", "to the right of", "above", "below")
HALF = 0.52  # a half's window, a little wider than the thing in it
PLACES: dict[str, tuple[Window, Window]] = {
    "to the left of": ((0.25, 0.5, HALF), (0.75, 0.5, HALF)),
    "above": ((0.5, 0.25, HALF), (0.5, 0.75, HALF)),
}
PLACES |= {"to the right of": PLACES["to the left of"][::-1], "below": PLACES["above"][::-1]}
Pictures = NDArray[np.uint8]


class Judged(NamedTuple):
    """What the measures need: something that draws prompts from a seed on, the judge, seeds, the model's folder."""

    draw: Callable[[list[str], int], Pictures]
    judge: "nn.Module"
    seeds: int
    folder: Path | None


def named(thing: int) -> str:
    """Return the noun with its article."""
    return article(THINGS[thing].noun) + THINGS[thing].noun


def things(by: Judged) -> dict[str, object]:
    """Draw a hundred things on coloured backgrounds: are they recognised, and is the background right?"""
    prompts, answers, grounds = [], [], []
    for seed in range(by.seeds):
        for place, thing in enumerate(ASKED):
            colour = COLOURS[(place + seed) % len(COLOURS)]
            prompts.append(f"{named(thing)} on {article(colour)}{colour} background")
            answers.append(thing)
            grounds.append(colour)
    pictures = by.draw(prompts, 1000)
    grids.sheet([Image.fromarray(p) for p in pictures], prompts, 20).save(WORK / "scores-things.png")
    found = ranks(log_shares(by.judge, pictures), answers)
    missed = [(sum(found[i] > 0 for i in range(place, len(found), 100)), thing) for place, thing in enumerate(ASKED)]
    return {
        "pictures": len(prompts),
        "top-1": top(found)[0],
        "top-5": top(found)[1],
        "background": share([background_of(p) == colour for p, colour in zip(pictures, grounds, strict=True)]),
        "captioned as": said_of(pictures, answers),
        "missed": {THINGS[thing].noun: int(times) for times, thing in sorted(missed, reverse=True) if times},
    }


def words(by: Judged) -> dict[str, object]:
    """Draw the things in other words; the ratio is to top-1 of "a <thing>"."""
    result: dict[str, Any] = {}
    answers = ASKED * min(2, by.seeds)
    for form in FORMS:
        prompts = [form.format(a=named(n), noun=THINGS[n].noun) for n in answers]
        found = top(ranks(log_shares(by.judge, by.draw(prompts, 5000)), answers))
        result[form] = {"pictures": len(prompts), "top-1": found[0], "top-5": found[1]}
        result[form]["ratio"] = round(found[0] / max(result[FORMS[0]]["top-1"], 1e-9), 3)
    return result


def pairs(by: Judged) -> dict[str, object]:
    """Draw pairs in a stated relation and look at the two places; renderings, right and wrong, test the measure."""
    rng = random.Random(5)
    asked = [(*rng.sample(range(len(THINGS)), 2), RELATIONS[i % 4], COLOURS[i % len(COLOURS)]) for i in range(100)]
    prompts = [f"{named(a)} {relation} {named(b)} on {article(c)}{c} background" for a, b, relation, c in asked]
    drawn = by.draw(prompts, 2000)
    grids.sheet([Image.fromarray(p) for p in drawn], prompts, 20).save(WORK / "scores-pairs.png")
    real = np.stack([np.asarray(render(pair_scene(*each))) for each in asked])
    twice = np.stack([np.asarray(render(pair_scene(a, a, relation, colour))) for a, _, relation, colour in asked])
    return {
        "drawn": in_relation(by.judge, drawn, asked),
        "rendered": in_relation(by.judge, real, asked),
        "rendered the other way round": in_relation(by.judge, real, [(b, a, *rest) for a, b, *rest in asked]),
        "rendered, the first twice": in_relation(by.judge, twice, asked),
    }


def pair_scene(first: int, second: int, relation: str, colour: str) -> Scene:
    """Return two things as the corpus has them, the first in the relation to the second."""
    items = tuple(
        Item(thing, x, y, 0.4375, None, flipped=False)
        for thing, (x, y, _) in zip((first, second), PLACES[relation], strict=True)
    )
    return Scene(items, colour, BACKGROUNDS[colour], relation=relation)


def in_relation(judge: "nn.Module", pictures: Pictures, asked: list[tuple[int, int, str, str]]) -> dict[str, float]:
    """Return how often both things are recognised where they were asked for, and how often in that order.

    `order` asks only whether the judge would rather have the two this way round than the other; a coin gets half.
    """
    import torch

    both = range(2)
    shares = torch.stack([log_shares(judge, pictures, [PLACES[a[2]][n] for a in asked]) for n in both], 1)
    found = np.stack([ranks(shares[:, n], [a[n] for a in asked]) for n in both], 1)
    rows = torch.arange(len(asked))
    first, second = (torch.tensor([a[n] for a in asked]) for n in both)
    asked_way = shares[rows, 0, first] + shares[rows, 1, second]
    other_way = shares[rows, 0, second] + shares[rows, 1, first]
    return {
        "pictures": len(asked),
        "both top-1": share((found < 1).all(1)),
        "both top-5": share((found < 5).all(1)),
        "either top-5": share((found < 5).any(1)),
        "order": share((asked_way > other_way).numpy()),
    }


def engravings(by: Judged) -> dict[str, object]:
    """Fine-tune on `engravings` as the demo does; are things it never saw engraved recognised in forty pictures?"""
    import shutil

    from brushwork import api

    folder = WORK / "scores-lora"
    shutil.rmtree(folder, ignore_errors=True)
    changes = [f"base={'mini' if by.folder == ASSETS / 'mini' else by.folder}", "validation.samples_during_training=0"]
    run = api.train(ASSETS / "demo.yaml", out=folder, evaluate=False, overrides=changes)
    nouns = [THINGS.index(t) for t in THINGS if t.noun in HELD_OUT]
    answers = (nouns + random.Random(1).sample(nouns, 40 - len(nouns)))[:40]
    prompts = [f"{named(n)}, old ink engraving" for n in answers]
    drawn = run.generate(*prompts, seed=3000, guidance_scale=4.0)
    grids.sheet(drawn, prompts).save(WORK / "scores-engravings.png")
    base = by.draw(prompts, 3000)
    scenes = [Scene((Item(n, 0.5, 0.5, 0.75, None, flipped=False),), "white", BACKGROUNDS["white"]) for n in answers]
    real = np.stack([np.asarray(engraving(scene)) for scene in scenes])
    pictures = np.stack([np.asarray(p.convert("RGB")) for p in drawn])
    return {
        "pictures": len(prompts),
        "seconds of training": round(run.record["seconds"]["train"]),
        "top-1, top-5": top(ranks(log_shares(by.judge, pictures), answers)),
        "the base's top-1, top-5": top(ranks(log_shares(by.judge, base), answers)),
        "engraved renderings' top-1, top-5": top(ranks(log_shares(by.judge, real), answers)),
        "saturation before, after": [round(saturation(some), 3) for some in (base, pictures)],
        "captioned as": said_of(pictures, answers),
        "the base's captioned as": said_of(base, answers),
    }


def said_of(pictures: Pictures, answers: list[int]) -> dict[str, float]:
    """Return the shares in which mini-captioner names the thing, engraving as the manner, and any drawn manner."""
    said = load_captioner("mini-captioner").describe([Image.fromarray(p) for p in pictures])
    manners = [manner_of(text) for text in said]
    return {
        "thing": share([f" {THINGS[n].noun} " in f" {text} " for n, text in zip(answers, said, strict=True)]),
        "engraving": share([manner == "engraving" for manner in manners]),
        "drawn in some manner": share([manner != "colour" for manner in manners]),
    }


def saturation(pictures: Pictures) -> float:
    """Return the mean of (max - min) / max over all pixels."""
    high, low = pictures.max(-1).astype(float), pictures.min(-1)
    return float(((high - low) / np.maximum(high, 1)).mean())


def share(values: Any) -> float:
    """Return the mean of booleans, rounded."""
    return round(float(np.mean(values)), 3)


def renderings(by: Judged) -> dict[str, object]:
    """Let the judge name unseen renderings: what it says of drawings is worth no more than this."""
    return dict(on_renderings(by.judge))


PARTS: dict[str, Callable[[Judged], dict[str, object]]] = {
    "judge on renderings [top-1, top-5]": renderings,
    "things": things,
    "words": words,
    "pairs": pairs,
    "engravings": engravings,
}


def fingerprint(pipeline: "StableDiffusionPipeline", seeds: int) -> str:
    """Return a hash of all weights, the judge's too."""
    digest = hashlib.blake2b(str(seeds).encode(), digest_size=8)
    for net in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        for tensor in net.state_dict().values():
            digest.update(tensor.contiguous().numpy().data)
    digest.update((WORK / "judge.pt").read_bytes())
    return digest.hexdigest()


def measured(folder: Path | None, *, quick: bool) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield each figure of the pipeline in a folder, or of the newest nets, when it is known.

    All are in scratch/figures.json too. Newest nets have no folder, and so no fine-tune starts from them.
    """
    pipeline = grids.load(folder)
    seeds = 1 if quick else 4

    def draw(prompts: list[str], seed: int) -> Pictures:
        return np.stack([np.asarray(picture) for picture in grids.draw(pipeline, prompts, seed)])

    by = Judged(draw, load_judge(), seeds, folder)
    mark = fingerprint(pipeline, seeds)
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    if known.get("weights") != mark:
        known = {"weights": mark, "seeds": seeds}
    for name, part in PARTS.items():
        if part is engravings and (quick or folder is None):
            continue
        if name not in known:
            known[name] = part(by)
            FIGURES.write_text(json.dumps(known, indent=1) + "\n")
        yield name, known[name]


def main() -> None:
    """Read the options and measure."""
    import torch

    parser = argparse.ArgumentParser(description="Count what a pipeline can do.")
    parser.add_argument("--model", type=Path, default=ASSETS / "mini")
    parser.add_argument("--newest", action="store_true", help="the newest checkpoint instead of the package's model")
    parser.add_argument("--quick", action="store_true", help="one seed, no fine-tune")
    parser.add_argument("--threads", type=int, default=1, help="more than the idle cores makes it many times slower")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, figures in measured(None if options.newest else options.model, quick=options.quick):
        print(json.dumps({name: figures}), flush=True)


if __name__ == "__main__":
    restart_with_malloc()
    main()
