"""The corpus of the diffusion stage: scenes encoded once by the frozen encoder.

    python -m embedded.latents --count 12000     # grows scratch/latents.npy (fp16, N x 2 x 4 x 16 x 16: mean and std)

Scene number i is always `corpus_scene(i)`: only latents are stored.
"""

import argparse
import json
import random
from functools import partial
from multiprocessing import Pool
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedded.classes import THINGS
from embedded.paths import WORK
from embedded.scenes import Scene, random_scene, render, settled
from embedded.speed import device, restart_with_malloc

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

BATCH = 64


def scene_number(number: int) -> Scene:
    """Return the corpus's scene with this number; its first thing goes through the classes in turn."""
    rng = random.Random(f"scene-{number}")
    while True:
        scene = random_scene(rng)
        if len(scene.items) > 1 or number % 7 == 0:
            return scene
        item = scene.items[0]._replace(thing=number % len(THINGS))
        if not THINGS[item.thing].flips:
            item = item._replace(flipped=False)
        return scene._replace(items=(item,))


def corpus_scene(number: int) -> Scene:
    """Return the scene as the diffusion stage sees it."""
    return settled(scene_number(number))


def _pixels(number: int) -> NDArray[np.uint8]:
    return np.asarray(render(corpus_scene(number)), dtype=np.uint8)


def _encode(vae: "AutoencoderKL", pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
    import torch

    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device()).float() / 127.5 - 1
    with torch.no_grad(), torch.autocast(device(), torch.bfloat16):
        posterior = vae.encode(batch.to(memory_format=torch.channels_last)).latent_dist
    return torch.stack([posterior.mean.float(), posterior.std.float()], 1).half().cpu().numpy()


def make(count: int, processes: int = 2) -> None:
    """Encode scenes 0..count-1, going on where an earlier call stopped."""
    path = WORK / "latents.npy"
    done: list[NDArray[np.float16]] = [np.load(path)] if path.exists() else []
    first = len(done[0]) if done else 0
    with Pool(processes, initializer=_load_for_pool) as pool:
        starts = range(first, count, BATCH)
        done += pool.map(partial(_encode_range, count=count), starts, chunksize=1)
    latents = np.concatenate(done)
    np.save(path, latents)
    moments = latents[:4000].astype(np.float32)
    deviation = float(np.sqrt(moments[:, 0].var() + np.square(moments[:, 1]).mean()))
    facts = {
        "count": len(latents),
        "scaling_factor": round(1 / deviation, 4),
        "std_per_channel": moments[:, 0].std((0, 2, 3)).round(3).tolist(),
        "mean_per_channel": moments[:, 0].mean((0, 2, 3)).round(3).tolist(),
    }
    facts_path = WORK / "latents.json"
    if first:  # the scaling factor belongs to the UNet that is being trained with it
        facts["scaling_factor"] = json.loads(facts_path.read_text())["scaling_factor"]
    facts_path.write_text(json.dumps(facts) + "\n")
    print(facts)


_pool_vae: "list[AutoencoderKL]" = []


def _load_for_pool() -> None:
    import torch

    from embedded.export import trained_vae

    torch.set_num_threads(1)
    _pool_vae.append(trained_vae(1.0).to(device(), memory_format=torch.channels_last))


def _encode_range(start: int, count: int) -> NDArray[np.float16]:
    pixels = np.stack([_pixels(n) for n in range(start, min(start + BATCH, count))])
    return _encode(_pool_vae[0], pixels)


if __name__ == "__main__":
    restart_with_malloc()
    parser = argparse.ArgumentParser(description="Encode the corpus.")
    parser.add_argument("--count", type=int, default=12_000)
    make(parser.parse_args().count)
