"""Teach the text encoder what captions say, before it meets pictures: a minute or two of reading is worth many samples.

    python -m embedded.text --minutes 2      # writes scratch/text.pt, from which embedded.base starts

From every padding position (where the pipeline's cross attention mostly looks) a linear probe must tell the things, how
they stand, and what is said of background, tint, size and place. The probe is thrown away.
"""

import argparse
import math
import random
import time
from typing import TYPE_CHECKING

from embedded import tokenizer as tokenizers
from embedded.captions import COLOUR_WORDS, caption
from embedded.classes import BACKGROUNDS, THINGS, TINTS
from embedded.paths import WORK
from embedded.scenes import PLACES, Scene, random_scene
from embedded.speed import device, restart_with_malloc

if TYPE_CHECKING:
    import torch

QUESTIONS = (len(THINGS), len(THINGS) + 1, 3, len(BACKGROUNDS) + 1, len(TINTS) + 1, 3, len(PLACES) + 1)


def facts(scene: Scene, words: str) -> list[int]:
    """Return the answers: first thing (left or upper), second, axis, background if named, tint, size, place."""
    pair = len(scene.items) > 1
    vertical = pair and abs(scene.items[0].y - scene.items[1].y) > 0.2
    items = sorted(scene.items, key=lambda item: item.y if vertical else item.x)
    names = COLOUR_WORDS.get(scene.background, (scene.background,))
    tint = scene.items[0].tint
    named = any(name in words for name in names) and tint is None
    return [
        items[0].thing,
        items[1].thing + 1 if pair else 0,
        1 + vertical if pair else 0,
        1 + list(BACKGROUNDS).index(scene.background) if named else 0,
        1 + list(TINTS).index(tint) if tint else 0,
        {None: 0, "small": 1, "large": 2}[scene.size],
        1 + PLACES.index(scene.place) if scene.place else 0,
    ]


def loss_of(answers: "torch.Tensor", truth: "torch.Tensor") -> "torch.Tensor":
    """Return the summed cross entropies of all questions, N x positions x choices against N x questions."""
    import torch
    from torch.nn import functional

    parts = answers.float().split(QUESTIONS, -1)
    positions = answers.shape[1]
    losses = [
        functional.cross_entropy(part.flatten(0, 1), truth[:, i].repeat_interleave(positions))
        for i, part in enumerate(parts)
    ]
    return torch.stack(losses).sum()


def train(minutes: float, threads: int, batch: int = 96) -> None:
    """Read captions for so many minutes."""
    import torch

    from embedded.muon import Muon
    from embedded.nets import TEXT_WIDTH, new_text_encoder

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    encoder, tokenizer = new_text_encoder(), tokenizers.load()
    if (WORK / "text.pt").exists():
        encoder.load_state_dict(torch.load(WORK / "text.pt", weights_only=True))
    probe = torch.nn.Linear(TEXT_WIDTH, sum(QUESTIONS))
    both = torch.nn.ModuleDict({"encoder": encoder, "embedding_probe": probe}).to(device())
    optimizer = Muon(both.named_parameters(), lr=0.02, adam_lr=2e-3)
    rng, start, step, mean = random.Random(1), time.time(), 0, 0.0
    while (share := (time.time() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * share))
        scenes = [random_scene(rng) for _ in range(batch)]
        words = [caption(scene, rng) for scene in scenes]
        length = rng.choice((32, 32, 32, tokenizers.LENGTH))
        tokens = tokenizer(words, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        truth = torch.tensor([facts(s, w) for s, w in zip(scenes, words, strict=True)]).to(device())
        with torch.autocast(device(), torch.bfloat16):
            states = encoder(tokens.input_ids.to(device())).last_hidden_state
            answers = probe(states[:, -6:])
        loss = loss_of(answers, truth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        step += 1
        mean = loss.item() if step == 1 else 0.95 * mean + 0.05 * loss.item()
        if step % 20 == 0:
            right = (answers[..., : len(THINGS)].argmax(-1) == truth[:, :1]).float().mean().item()
            print(f"{time.time() - start:5.0f}s step {step} loss {mean:.3f} things {right:.2f}", flush=True)
    torch.save(encoder.state_dict(), WORK / "text.pt")


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description="Teach the text encoder to read captions.")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    train(options.minutes, options.threads)


if __name__ == "__main__":
    restart_with_malloc()
    main()
