"""Train `mini-captioner`, which says what a picture shows, on what background and in which manner.

    python -m embedded.captioner --minutes 15    # goes on from scratch/captioner.pt
    python -m embedded.captioner --export        # writes the package's mini-captioner/

A BLIP of two million parameters with 217 tokens. Its eyes start as mini-clip's. Captions are short and of one form:

    a small red dog on a blue background · a cat to the left of a pizza on a white background
    an engraving of a dog · a pencil sketch of a dog · a drawing of a dog · a black and white picture of a dog

Engravings and pencil sketches of every ninth thing are held apart: that it names the manner there shows that the words
are bound to the manner and not to things. What ships went on with `--everything`, which leaves nothing apart.
"""

import argparse
import json
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedded.captions import article
from embedded.classes import BACKGROUNDS, THINGS, TINTS
from embedded.paths import ASSETS, WORK
from embedded.scenes import Scene
from embedded.speed import device, restart_with_malloc
from embedded.views import Window, load, looked_at, roughened

if TYPE_CHECKING:
    import torch
    from transformers import BertTokenizer, BlipForConditionalGeneration

WIDTH, TEXT_WIDTH, TEXT_LAYERS, LENGTH = 176, 128, 2, 32
MEAN, DEVIATION = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]  # mini-clip's, whose eyes these are
SAYS = {
    "colour": "",
    "engraving": "an engraving of ",
    "pencil": "a pencil sketch of ",
    "outline": "a drawing of ",
    "grey": "a black and white picture of ",
}
APART = frozenset(range(4, len(THINGS), 9))
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")


def described(scene: Scene, manner: str) -> str:
    """Return the one caption of a scene drawn in a manner; in pairs the left or upper thing comes first."""
    coloured, items, joint = manner == "colour", list(scene.items), ""
    if len(items) == 2:
        across = abs(items[0].x - items[1].x) > abs(items[0].y - items[1].y)
        items.sort(key=lambda item: item.x if across else item.y)
        joint = " to the left of " if across else " above "
    phrases = []
    for item in items:
        words = [scene.size or "", (item.tint or "") if coloured else "", THINGS[item.thing].noun]
        phrase = " ".join(word for word in words if word)
        phrases.append(article(phrase) + phrase)
    ground = f" on {article(scene.background)}{scene.background} background" if coloured else ""
    return SAYS[manner] + joint.join(phrases) + ground


def tokenizer() -> "BertTokenizer":
    """Return a WordPiece tokenizer of our captions' words, and letters for all others."""
    from transformers import BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    texts = [
        *SAYS.values(),
        *(t.noun for t in THINGS),
        *BACKGROUNDS,
        *TINTS,
        "small large on a an background to the left of above",
    ]
    words = dict.fromkeys(word for text in texts for word in text.split() if len(word) > 1)
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *".,'-", *words]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=vocabulary, bos_token="[DEC]", model_max_length=LENGTH)  # noqa: S106 - a token, no secret


def new_captioner() -> "BlipForConditionalGeneration":
    """Return the untrained model."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    words = tokenizer()
    text = {
        "vocab_size": len(words),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.sep_token_id,
        "sep_token_id": words.sep_token_id,
        "pad_token_id": words.pad_token_id,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
        "hidden_act": "quick_gelu",
    }
    return BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=vision, projection_dim=WIDTH, image_text_hidden_size=WIDTH)
    )


def take_eyes(model: "BlipForConditionalGeneration") -> None:
    """Give the captioner mini-clip's picture tower.

    BLIP has no layer norm before its first layer. Centring and gain of CLIP's go into patch and position embeddings
    exactly; the division by each token's deviation becomes one by the usual deviation.
    """
    import torch

    state = torch.load(WORK / "clip.pt", weights_only=True, map_location="cpu")["clip"]
    clip = {
        name.removeprefix("vision_model."): value for name, value in state.items() if name.startswith("vision_model.")
    }
    eyes = model.vision_model
    patches, places = clip["embeddings.patch_embedding.weight"], clip["embeddings.position_embedding.weight"]
    gain, bias = clip["pre_layrnorm.weight"], clip["pre_layrnorm.bias"]
    pixels = (
        torch.from_numpy(np.array(load("test")[0][:200])).permute(0, 3, 1, 2).float() / 255 - MEAN[0]
    ) / DEVIATION[0]
    tokens = torch.nn.functional.conv2d(pixels, patches, stride=16).flatten(2).transpose(1, 2) + places[1:]
    usual = tokens.std(-1).median()
    first = clip["embeddings.class_embedding"] + places[0]
    with torch.no_grad():
        eyes.embeddings.patch_embedding.weight.copy_((patches - patches.mean(0)) * (gain / usual).view(-1, 1, 1, 1))
        eyes.embeddings.patch_embedding.bias.zero_()
        eyes.embeddings.class_embedding.zero_()
        eyes.embeddings.position_embedding[0, 1:] = (
            places[1:] - places[1:].mean(-1, keepdim=True)
        ) * gain / usual + bias
        eyes.embeddings.position_embedding[0, 0] = torch.nn.functional.layer_norm(first, gain.shape, gain, bias)
    layers = {}
    for name, value in clip.items():
        inner = name.startswith("encoder.layers")
        if name.startswith("post_layernorm") or (inner and "self_attn" not in name):
            layers[name] = value
        elif inner and "q_proj" in name:
            parts = [clip[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            layers[name.replace("q_proj", "qkv")] = torch.cat(parts)
        elif "out_proj" in name:
            layers[name.replace("out_proj", "projection")] = value
    missing, unknown = eyes.load_state_dict(layers, strict=False)
    assert not unknown, unknown
    assert all(name.startswith("embeddings") for name in missing), missing


def outlined(pixels: "torch.Tensor") -> "torch.Tensor":
    """Draw the edges of pictures (N x 3 x 64 x 64) in dark lines on light paper of some tone."""
    import torch
    from torch.nn import functional

    padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    slope = torch.hypot(
        padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    )
    count = len(pixels)
    ink = (slope.amax(1, keepdim=True) * torch.empty(count, 1, 1, 1).uniform_(1.0, 2.5) - 0.12).clamp(0, 1)
    paper = torch.empty(count, 1, 1, 1).uniform_(0.85, 1) - torch.rand(count, 3, 1, 1) * 0.08
    return paper * (1 - ink) + ink * torch.rand(count, 3, 1, 1) * 0.3


def greyed(pixels: "torch.Tensor") -> "torch.Tensor":
    """Take the colours out."""
    import torch

    return (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand_as(pixels)


def batch_of(
    pixels: NDArray[np.uint8], scenes: list[Scene], manners: list[str], rows: list[int], rng: random.Random
) -> tuple["torch.Tensor", list[str]]:
    """Return pictures N x 3 x 64 x 64 in [0, 1] with captions; a quarter of the coloured are greyed or outlined."""
    import torch

    windows: list[Window] = [
        (0.5 + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.05, 0.05), rng.uniform(0.92, 1.1)) for _ in rows
    ]
    pictures = looked_at(pixels[rows], windows, bend=0.02)
    shown = []
    for n in rows:
        kind = manners[n]
        shown.append(rng.choice(("grey", "outline")) if kind == "colour" and rng.random() < 0.25 else kind)
    for kind, change in (("grey", greyed), ("outline", outlined)):
        chosen = torch.tensor([name == kind for name in shown])
        if chosen.any():
            pictures[chosen] = change(pictures[chosen])
    mirrored = torch.tensor([len(scenes[n].items) == 1 and rng.random() < 0.25 for n in rows])
    pictures[mirrored] = pictures[mirrored].flip(-1)
    light = torch.empty(len(rows), 3, 1, 1).uniform_(-0.04, 0.04) + torch.empty(len(rows), 1, 1, 1).uniform_(0.9, 1.05)
    texts = [described(scenes[n], kind) for n, kind in zip(rows, shown, strict=True)]
    return roughened((pictures * light).clamp(0, 1)), texts


def muon_names(model: "BlipForConditionalGeneration") -> list[tuple[str, Any]]:
    """Return named parameters as the optimizer knows them: queries and keys, also fused ones, learn slowly."""
    words = {".query.": ".to_q.", ".key.": ".to_k.", ".qkv.": ".to_q."}
    named = []
    for name, parameter in model.named_parameters():
        new = name
        for word, other in words.items():
            new = new.replace(word, other)
        named.append((new, parameter))
    return named


def train(minutes: float, threads: int, batch: int, lr: float, *, everything: bool) -> None:
    """Train for so many minutes; the rate falls to zero over the second half."""
    import torch

    from embedded.muon import Muon

    torch.set_num_threads(threads)
    model, words, path, seen = new_captioner(), tokenizer(), WORK / "captioner.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["captioner"])
        seen = state["seen"]
    else:
        take_eyes(model)
    model.to(device()).train()
    optimizer = Muon(muon_names(model), lr=lr, adam_lr=1e-3)
    pixels, scenes, manners = load("train")
    known = [
        n
        for n, scene in enumerate(scenes)
        if everything or manners[n] == "colour" or not APART & {item.thing for item in scene.items}
    ]
    known += [n for n in known if len(scenes[n].items) > 1]  # pairs are the hardest and one in seven
    rng, start, step, mean = random.Random(seen), time.process_time(), 0, 0.0
    torch.manual_seed(seen)
    while (share := (time.process_time() - start) / (60 * minutes * threads)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / 30, 2 - 2 * share)
        pictures, texts = batch_of(pixels, scenes, manners, rng.sample(known, batch), rng)
        tokens = words(texts, padding=True, return_tensors="pt").to(device())
        tokens.input_ids[:, 0] = words.bos_token_id
        with torch.autocast(device(), torch.bfloat16):
            output = model(
                pixel_values=((pictures - MEAN[0]) / DEVIATION[0]).to(device()),
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
                labels=tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100),
            )
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, seen = step + 1, seen + batch
        mean = output.loss.item() if step == 1 else 0.97 * mean + 0.03 * output.loss.item()
        if step % 50 == 0:
            print(f"{time.process_time() - start:6.0f}s step {step} seen {seen} loss {mean:.3f}", flush=True)
            torch.save({"captioner": model.state_dict(), "seen": seen}, path)
    torch.save({"captioner": model.state_dict(), "seen": seen}, path)
    print(json.dumps(accuracy(model.cpu().eval(), apart=not everything), indent=1))


def accuracy(model: "BlipForConditionalGeneration", *, apart: bool = False) -> dict[str, dict[str, float]]:
    """Return how often unseen renderings get the thing, both of a pair, background, manner, or the whole caption.

    By manner; with `apart`, engravings and sketches of the things held apart are groups of their own.
    """
    import torch

    words = tokenizer()
    pixels, scenes, manners = load("test")
    pictures = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
    rows: dict[str, list[int]] = {"colour": [], "engraving": [], "pencil": []}
    for n, manner in enumerate(manners):
        strange = apart and manner != "colour" and APART & {item.thing for item in scenes[n].items}
        rows.setdefault(f"{manner}, held apart" if strange else manner, []).append(n)
    groups: dict[str, tuple[str, list[int], Any]] = {
        name: (name.partition(",")[0], some, lambda pixels: pixels) for name, some in rows.items()
    }
    groups |= {"grey": ("grey", rows["colour"][:600], greyed), "outline": ("outline", rows["colour"][:600], outlined)}
    result = {}
    for name, (manner, rows, change) in groups.items():
        said = []
        for start in range(0, len(rows), 100):
            inputs = (change(pictures[rows[start : start + 100]]) - MEAN[0]) / DEVIATION[0]
            with torch.inference_mode():
                numbers = model.generate(pixel_values=inputs, max_new_tokens=LENGTH - 2, do_sample=False, num_beams=1)
            said += words.batch_decode(numbers, skip_special_tokens=True)
        single = [len(scenes[n].items) == 1 for n in rows]
        things = [
            all(f" {THINGS[item.thing].noun} " in f" {text} " for item in scenes[n].items)
            for n, text in zip(rows, said, strict=True)
        ]
        scores = {
            "thing": np.mean([right for right, one in zip(things, single, strict=True) if one]),
            "both of a pair": np.mean([right for right, one in zip(things, single, strict=True) if not one]),
            "manner": np.mean([manner_of(text) == manner for text in said]),
            "whole": np.mean([text == described(scenes[n], manner) for n, text in zip(rows, said, strict=True)]),
        }
        if manner == "colour":
            scores["background"] = np.mean(
                [text.endswith(f" {scenes[n].background} background") for n, text in zip(rows, said, strict=True)]
            )
        result[name] = {"pictures": len(rows)} | {what: round(float(share), 3) for what, share in scores.items()}
    return result


def manner_of(text: str) -> str:
    """Return the manner that a caption names."""
    return next((manner for manner, start in SAYS.items() if start and text.startswith(start)), "colour")


def export() -> None:
    """Write the package's mini-captioner/ in half precision, with its processor."""
    import torch
    from transformers import BlipImageProcessorPil, BlipProcessor

    from embedded.export import load_in_single_precision

    model = new_captioner()
    model.load_state_dict(torch.load(WORK / "captioner.pt", weights_only=True, map_location="cpu")["captioner"])
    folder = ASSETS / "mini-captioner"
    model.half().save_pretrained(folder)
    load_in_single_precision(folder / "config.json")
    pictures = BlipImageProcessorPil(size={"height": 64, "width": 64}, image_mean=MEAN, image_std=DEVIATION)
    BlipProcessor(pictures, tokenizer()).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # as all others in a wheel
    print(json.dumps(accuracy(model.float().eval()), indent=1))


def main() -> None:
    """Read the options; train or export."""
    parser = argparse.ArgumentParser(description="Train mini-captioner.")
    parser.add_argument("--minutes", type=float, default=15, help="of CPU time for each thread")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--everything", action="store_true", help="hold nothing apart")
    parser.add_argument("--export", action="store_true")
    options = parser.parse_args()
    if options.export:
        export()
    else:
        train(options.minutes, options.threads, options.batch, options.lr, everything=options.everything)


if __name__ == "__main__":
    restart_with_malloc()
    main()
