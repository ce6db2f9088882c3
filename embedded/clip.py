"""Train `mini-clip`, the offline judge of how well a picture fits a text.

    python -m embedded.clip --minutes 15      # resumes from scratch/clip.pt; --export writes the package's mini-clip/
    python -m embedded.clip --minutes 12 --renew      # first takes over what embedded.text has learnt since

Two thirds of the pictures are disguised (odd colours, greyscale, ink and pencil manners), and their captions then
speak of things only, so it has to look at shapes. Ink and pencil pictures often name their manner.
"""

import argparse
import json
import math
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedded import tokenizer as tokenizers
from embedded.captions import article, caption
from embedded.classes import THINGS
from embedded.paths import ASSETS, WORK
from embedded.scenes import Scene, random_scene
from embedded.speed import device, restart_with_malloc
from embedded.views import disguise, load, moved

if TYPE_CHECKING:
    import torch
    from transformers import CLIPModel

WIDTH, VISION_LAYERS = 176, 4
MANNER_WORDS = {
    "engraving": (
        "an engraving of {}", "{}, old ink engraving", "{}, engraving", "an old engraving of {}", "{}, ink hatching",
        "an old book illustration of {}", "an ink drawing of {}", "a black and white drawing of {}",
    ),
    "pencil": (
        "a pencil sketch of {}", "{}, soft pencil drawing", "a sketch of {}", "a pencil drawing of {}", "{}, pencil",
        "a black and white sketch of {}", "a drawing of {}",
    ),
    "colour": ("a picture of {}", "a photo of {}", "an emoji of {}", "a colorful {}"),
}  # fmt: skip
MEAN, DEVIATION = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


class Pair(NamedTuple):
    """One picture with a text, and what the text says: things, background (or none), manner (or none)."""

    pixels: np.ndarray
    text: str
    says: tuple[tuple[int, ...], str | None, str | None]
    shows: tuple[tuple[int, ...], str | None, str]


def new_clip() -> "CLIPModel":
    """Return the untrained model."""
    from transformers import CLIPConfig, CLIPModel

    from embedded.nets import text_config

    text = text_config() | {"projection_dim": WIDTH}
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def renew_reader(model: "CLIPModel", texts: int = 5000) -> None:
    """Give the text tower the reader of scratch/text.pt, with the projection that best repeats the old one's features.

    Two readers write what they know in different directions; a linear map (ridge regression) translates.
    """
    import torch

    rng, tokenizer = random.Random(0), tokenizers.load()
    words = [caption(random_scene(rng, range(80)), rng, noisy=0.25) for _ in range(texts)]
    words += [rng.choice(rng.choice(list(MANNER_WORDS.values()))).format(word) for word in words[: texts // 3]]
    batches = [
        tokenizer(words[n : n + 200], padding=True, truncation=True, return_tensors="pt")
        for n in range(0, len(words), 200)
    ]

    def pooled() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([model.text_model(input_ids=some.input_ids).pooler_output for some in batches])

    wanted = pooled() @ model.text_projection.weight.detach().T
    reader = torch.load(WORK / "text.pt", weights_only=True, map_location="cpu")
    model.text_model.load_state_dict({name.removeprefix("text_model."): tensor for name, tensor in reader.items()})
    known = pooled()
    square = known.T @ known
    square += 1e-3 * square.diagonal().mean() * torch.eye(len(square))
    with torch.no_grad():
        model.text_projection.weight.copy_(torch.linalg.solve(square, known.T @ wanted).T)


def pair(pixels: np.ndarray, scene: Scene, manner: str, rng: random.Random, np_rng: np.random.Generator) -> Pair:
    """Disguise a picture and word a text that is true of it."""
    before = pixels.astype(np.float32) / 255
    after = disguise(before, np_rng)
    plain = manner == "colour" and after is before
    if not plain:
        scene = scene._replace(items=tuple(item._replace(tint=None) for item in scene.items))
    named = 1.0 if plain and rng.random() < 0.5 else 0.0
    text = caption(scene, rng, noisy=0.25, named=named)
    says_manner = None
    if rng.random() < (0.5 if plain else 0.7) and (plain or manner != "colour"):
        text, says_manner = rng.choice(MANNER_WORDS[manner]).format(text), manner
    things = tuple(sorted(item.thing for item in scene.items))
    return Pair(
        moved(after, np_rng),
        text,
        (things, scene.background if named else None, says_manner),
        (things, scene.background if plain else None, manner),
    )


def agreement(pairs: list[Pair]) -> "torch.Tensor":
    """Return 1 where text i is true of picture j, as far as things, background and manner go."""
    import torch

    rows = [
        [
            float(p.says[0] == q.shows[0] and p.says[1] in {None, q.shows[1]} and p.says[2] in {None, q.shows[2]})
            for q in pairs
        ]
        for p in pairs
    ]
    return torch.tensor(rows)


def contrast(model: "CLIPModel", pairs: list[Pair], tokenizer: Any) -> "torch.Tensor":
    """Return the symmetric contrastive loss with all true pairs as targets."""
    import torch

    tokens = tokenizer([p.text for p in pairs], padding=True, truncation=True, return_tensors="pt").to(device())
    pixels = torch.from_numpy(np.stack([p.pixels for p in pairs])).permute(0, 3, 1, 2).to(device())
    with torch.autocast(device(), torch.bfloat16):
        output = model(input_ids=tokens.input_ids, pixel_values=(pixels - MEAN[0]) / DEVIATION[0])
    logits, truth = output.logits_per_text.float(), agreement(pairs).to(device())
    by_text = -(logits.log_softmax(1) * truth / truth.sum(1, keepdim=True)).sum(1).mean()
    by_picture = -(logits.log_softmax(0) * truth / truth.sum(0, keepdim=True)).sum(0).mean()
    return (by_text + by_picture) / 2


def chosen(scenes: list[Scene], count: int, rng: random.Random) -> list[int]:
    """Return pictures of a few things only, so that manner and background tell them apart."""
    things = set(rng.sample(range(len(THINGS)), 10))
    rows = [n for n, scene in enumerate(scenes) if scene.items[0].thing in things and len(scene.items) == 1]
    return rng.sample(rows, min(count, len(rows)))


def train(options: argparse.Namespace) -> None:
    """Train for so many minutes; the rate falls to zero over the second half."""
    import torch

    from embedded.muon import Muon

    torch.set_num_threads(options.threads)
    model, tokenizer = new_clip(), tokenizers.load()
    path = WORK / "clip.pt"
    seen = 0
    if (WORK / "text.pt").exists():  # the reader of `mini` is a good start
        reader = torch.load(WORK / "text.pt", weights_only=True)
        model.text_model.load_state_dict({k.removeprefix("text_model."): v for k, v in reader.items()})
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["clip"])
        seen = state["seen"]
        if options.renew:
            renew_reader(model)
    model.to(device()).set_attn_implementation("eager")  # the faster one for few tokens on a CPU
    model.text_model.requires_grad_(False)  # it reads already; its last layer learns to fetch the words for manners
    for part in (model.text_model.encoder.layers[-1], model.text_model.final_layer_norm):
        part.requires_grad_(True)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    optimizer = Muon(named, lr=options.lr, adam_lr=1e-3)
    pixels, scenes, manners = load("train")
    rng, np_rng = random.Random(seen), np.random.default_rng(seen)
    start, step, mean = time.process_time(), 0, 0.0
    while (share := (time.process_time() - start) / (60 * options.minutes * options.threads)) < 1:
        rate = min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * max(0.0, 2 * share - 1)))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        numbers = chosen(scenes, options.batch, rng) if step % 2 else rng.sample(range(len(scenes)), options.batch)
        pairs = [pair(pixels[n], scenes[n], manners[n], rng, np_rng) for n in numbers]
        loss = contrast(model, pairs, tokenizer)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(50))
        step, seen = step + 1, seen + options.batch
        mean = loss.item() if step == 1 else 0.97 * mean + 0.03 * loss.item()
        if step % 50 == 0:
            print(f"{time.process_time() - start:6.0f}s step {step} seen {seen} loss {mean:.3f}", flush=True)
            torch.save({"clip": model.state_dict(), "seen": seen}, path)
    torch.save({"clip": model.state_dict(), "seen": seen}, path)
    print(json.dumps(accuracy(model)))


def accuracy(model: "CLIPModel", first: int = len(THINGS)) -> dict[str, list[float]]:
    """Return top-1 and top-5 of all classes on unseen renderings of one of the `first` things, per manner and grey."""
    import torch

    tokenizer = tokenizers.load()
    texts = [f"a picture of {article(t.noun)}{t.noun}" for t in THINGS]
    tokens = tokenizer(texts, padding=True, return_tensors="pt").to(device())
    pixels, scenes, manners = load("test")
    rows = [n for n, scene in enumerate(scenes) if len(scene.items) == 1 and scene.items[0].thing < first]
    batch = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).float() / 255
    truth = torch.tensor([scenes[n].items[0].thing for n in rows])
    kinds = np.array([manners[n] for n in rows])
    grey = (batch * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand_as(batch)

    def top(pictures: "torch.Tensor", answers: "torch.Tensor") -> list[float]:
        with torch.no_grad():
            values = (pictures.to(device()) - MEAN[0]) / DEVIATION[0]
            logits = model(input_ids=tokens.input_ids, pixel_values=values).logits_per_image.cpu()
        best = logits.topk(5).indices == answers[:, None]
        return [round(best[:, 0].float().mean().item(), 3), round(best.any(1).float().mean().item(), 3)]

    result = {kind: top(batch[kinds == kind], truth[kinds == kind]) for kind in ("colour", "engraving", "pencil")}
    result["greyscale"] = top(grey[kinds == "colour"], truth[kinds == "colour"])
    return result


def manners(model: "CLIPModel", count: int = 200) -> dict[str, float]:
    """Return how often, of the three texts with the right thing, the one with the right manner fits a picture best."""
    import torch

    tokenizer, (pixels, scenes, kinds) = tokenizers.load(), load("test")
    forms = {"colour": "a picture of {}", "engraving": "{}, old ink engraving", "pencil": "{}, soft pencil drawing"}
    texts = [form.format(article(t.noun) + t.noun) for t in THINGS for form in forms.values()]
    result = {}
    for place, kind in enumerate(forms):
        rows = [n for n, scene in enumerate(scenes) if kinds[n] == kind and len(scene.items) == 1][:count]
        values = (torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / DEVIATION[0]
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=tokens.input_ids, pixel_values=values).logits_per_image.view(len(rows), -1, 3)
        best = logits[range(len(rows)), [scenes[n].items[0].thing for n in rows]].argmax(1)
        result[kind] = round((best == place).float().mean().item(), 3)
    return result


def export() -> None:
    """Write the package's mini-clip/ in half precision, with tokenizer and image processor."""
    import torch
    from transformers import CLIPImageProcessorPil

    from embedded.export import load_in_single_precision

    model = new_clip()
    model.load_state_dict(torch.load(WORK / "clip.pt", weights_only=True, map_location="cpu")["clip"])
    folder = ASSETS / "mini-clip"
    model.half().save_pretrained(folder)
    load_in_single_precision(folder / "config.json")
    tokenizers.load().save_pretrained(folder)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=MEAN, image_std=DEVIATION
    )
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # as all others in a wheel
    print(json.dumps(accuracy(model.float())))


def main() -> None:
    """Read the options; train or export."""
    parser = argparse.ArgumentParser(description="Train mini-clip.")
    parser.add_argument("--minutes", type=float, default=15, help="of CPU time for each thread")
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--renew", action="store_true", help="take over the newest reader (once, after embedded.text)")
    parser.add_argument("--export", action="store_true")
    options = parser.parse_args()
    if options.export:
        export()
    else:
        train(options)


if __name__ == "__main__":
    restart_with_malloc()
    main()
