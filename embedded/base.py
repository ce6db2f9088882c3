"""Train the UNet of `mini` on the encoded scenes; the text encoder has learnt to read before (`embedded.text`).

    python -m embedded.base --minutes 60                # resumes from scratch/base.pt; flat learning rate
    python -m embedded.base --minutes 12 --anneal       # from scratch/base.pt to scratch/base-annealed.pt, rate to zero

v-prediction; levels with little noise weigh less, as min-SNR-5 has it, the noisiest keep their full weight (they
decide what is drawn: 16 x 16 latents are small for this schedule). One caption serves several noise levels of its
picture (stratified), which makes the 77-token text side cheap. Two processes of one thread each are faster on two
cores than one of two.
"""

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedded import tokenizer as tokenizers
from embedded.captions import caption
from embedded.classes import THINGS
from embedded.latents import corpus_scene
from embedded.paths import WORK
from embedded.speed import device, restart_with_malloc

if TYPE_CHECKING:
    import torch
    from torch import nn

EMA = 0.998
SNR_GAMMA = 5.0
EMPTY_CAPTION = 0.1
STOP = WORK / "stop"  # `touch embedded/scratch/stop` ends the training early, with everything saved


class Nets(NamedTuple):
    """The frozen reader, what is trained, and its running average."""

    text: "nn.Module"
    unet: "nn.Module"
    ema_unet: "nn.Module"


class GroupedAttention:
    """Attention of plain products, where several neighbouring rows of a batch may share one text row."""

    def __call__(
        self,
        attn: Any,
        hidden_states: "torch.Tensor",
        encoder_hidden_states: "torch.Tensor | None" = None,
        attention_mask: None = None,  # noqa: ARG002 - diffusers passes it
        temb: None = None,  # noqa: ARG002 - likewise
    ) -> "torch.Tensor":
        """Return the attended states."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        rows, heads = source.shape[0], attn.heads

        def split(x: "torch.Tensor") -> "torch.Tensor":
            x = x.reshape(rows, -1, heads, x.shape[-1] // heads)
            return x.transpose(1, 2).reshape(rows * heads, x.shape[1], -1)

        q, k, v = split(attn.to_q(hidden_states)), split(attn.to_k(source)), split(attn.to_v(source))
        weights = (q @ k.transpose(1, 2) * attn.scale).softmax(-1)
        out = (weights @ v).view(rows, heads, q.shape[1], -1).transpose(1, 2)
        return attn.to_out[0](out.reshape(hidden_states.shape[0], hidden_states.shape[1], -1))


class Corpus:
    """Random batches of latents with freshly worded captions."""

    def __init__(self, seed: int, noisy: float) -> None:
        """Map the latents and make the scenes they show."""
        self.noisy = noisy
        self.latents = np.load(WORK / "latents.npy", mmap_mode="r")
        self.factor = json.loads((WORK / "latents.json").read_text())["scaling_factor"]
        self.scenes = [corpus_scene(i) for i in range(len(self.latents))]
        # A name in scratch/favoured.json, a thing that is drawn badly yet, is seen twice as often.
        path = WORK / "favoured.json"
        favoured = set(json.loads(path.read_text())) if path.exists() else set()
        names = [THINGS[scene.items[0].thing].noun for scene in self.scenes]
        self.numbers = [n for n, name in enumerate(names) for _ in range(1 + (name in favoured))]
        self.tokenizer, self.rng = tokenizers.load(), random.Random(seed)

    def batch(self, pictures: int) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return (latents sampled from their posteriors and scaled, token ids)."""
        import torch

        numbers = self.rng.sample(self.numbers, pictures)
        words = [
            "" if self.rng.random() < EMPTY_CAPTION else caption(self.scenes[n], self.rng, self.noisy) for n in numbers
        ]
        ids = self.tokenizer(words, padding="max_length", truncation=True, return_tensors="pt").input_ids
        moments = torch.from_numpy(self.latents[numbers].astype(np.float32))
        latents = (moments[:, 0] + moments[:, 1] * torch.randn_like(moments[:, 0])) * self.factor
        return latents.to(device()), ids.to(device())


class Diffusion:
    """Noise levels of the schedule and the weighted v-prediction loss."""

    def __init__(self) -> None:
        """Take the schedule from the shipped scheduler."""
        from embedded.nets import new_scheduler

        self.alphas = new_scheduler().alphas_cumprod.to(device())

    def loss(self, nets: Nets, latents: "torch.Tensor", ids: "torch.Tensor", levels: int) -> "torch.Tensor":
        """Return the mean loss over `levels` stratified noise levels of each picture."""
        import torch

        pictures = len(latents)
        places = (torch.arange(levels) + torch.rand(pictures, levels)) / levels
        t = (places.flatten() * len(self.alphas)).long().to(latents.device)
        x0 = latents.repeat_interleave(levels, 0)
        noise = torch.randn_like(x0)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        xt = (alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        with torch.autocast(latents.device.type, torch.bfloat16):
            states = nets.text(ids).last_hidden_state
            prediction = nets.unet(xt, t, states).sample
        snr = alpha.flatten() / (1 - alpha.flatten())
        weight = (snr + 1).clamp(max=SNR_GAMMA) / (snr + 1)
        return ((prediction.float() - target).square().mean((1, 2, 3)) * weight).mean()


def build(path: Path) -> tuple[Nets, Any, dict[str, Any]]:
    """Return nets, optimizer and counters, from the checkpoint if there is one."""
    import copy

    import torch

    from embedded.muon import Muon
    from embedded.nets import new_text_encoder, new_unet

    torch.manual_seed(0)
    text, unet = new_text_encoder(), new_unet()
    text.load_state_dict(torch.load(WORK / "text.pt", weights_only=True))
    state = torch.load(path, weights_only=True) if path.exists() else None
    if state:
        unet.load_state_dict(state["unet"])
    text, unet = text.to(device()).requires_grad_(False), unet.to(device(), memory_format=torch.channels_last)
    unet.set_attn_processor(GroupedAttention())
    nets = Nets(text, unet, copy.deepcopy(unet).requires_grad_(False))
    optimizer = Muon(unet.named_parameters(), lr=0.01, adam_lr=1e-3)
    if state:
        nets.ema_unet.load_state_dict(state["ema_unet"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
    return nets, optimizer, {"step": state["step"], "seen": state["seen"]} if state else {"step": 0, "seen": 0}


def save(path: Path, nets: Nets, optimizer: Any, counters: dict[str, Any]) -> None:
    """Write everything but the frozen reader, atomically."""
    import torch

    state = {
        name: {k: v.contiguous() for k, v in net.state_dict().items()}
        for name, net in (("unet", nets.unet), ("ema_unet", nets.ema_unet))
    }
    torch.save({**state, "optimizer": optimizer.state_dict(), **counters}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def train(rank: int, options: argparse.Namespace) -> None:
    """Train in one process of `options.ranks`."""
    import torch

    torch.set_num_threads(options.threads)
    ranks = options.ranks
    if ranks > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(options.port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    nets, optimizer, counters = build(WORK / f"{options.name}.pt")
    seed = counters["seen"] * ranks + rank
    torch.manual_seed(seed)
    corpus, diffusion = Corpus(seed, options.noisy), Diffusion()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    record = Record(options, lambda path: save(path, nets, optimizer, counters))
    while (share := record.share(ranks)) < 1:
        rate = min(1.0, (counters["step"] + 1) / 50) * options.rate
        if options.anneal:
            rate *= 0.5 + 0.5 * math.cos(math.pi * share)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        loss = diffusion.loss(nets, *corpus.batch(options.pictures), options.levels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if ranks > 1:
            average_gradients(trained, ranks)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        counters["step"] += 1
        counters["seen"] += options.pictures * options.levels * ranks
        follow(nets, counters["step"])
        if rank == 0:
            record.step(counters, loss.item(), rate)
    if rank == 0:
        record.finish()


def follow(nets: Nets, step: int) -> None:
    """Move the running averages."""
    import torch

    decay = min(EMA, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(nets.ema_unet.parameters()), list(nets.unet.parameters()), 1 - decay)


def average_gradients(parameters: list["torch.Tensor"], ranks: int) -> None:
    """Replace every gradient by its mean over the processes."""
    import torch

    gradients = [p.grad.contiguous() for p in parameters]
    flat = torch.cat([g.flatten() for g in gradients])
    torch.distributed.all_reduce(flat)
    flat.div_(ranks)
    start = 0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = flat[start : start + gradient.numel()].view(gradient.shape)
        start += gradient.numel()


class Record:
    """The clock of a training: how much of it is over, a log line every 30 s, a checkpoint every two minutes."""

    def __init__(self, options: argparse.Namespace, write: Callable[[Path], None]) -> None:
        """Start the clock."""
        self.options, self.write = options, write
        self.path = WORK / f"{options.name}{'-annealed' if options.anneal else ''}.pt"
        self.start = self.saved = self.logged = time.time()
        self.mean: float | None = None
        self.seen_at_log = 0

    def share(self, ranks: int) -> float:
        """Return the share of the time that is over, the same in all processes."""
        import torch

        share = torch.tensor((time.time() - self.start) / (60 * self.options.minutes) + STOP.exists())
        if ranks > 1:
            torch.distributed.broadcast(share, 0)
        return float(share)

    def step(self, counters: dict[str, Any], loss: float, rate: float) -> None:
        """Take note of a step."""
        self.mean = loss if self.mean is None else 0.97 * self.mean + 0.03 * loss
        now = time.time()
        if now - self.logged > 30:
            pace = (counters["seen"] - self.seen_at_log) / (now - self.logged) if self.seen_at_log else 0.0
            row = {**counters, "loss": round(self.mean, 5), "per_second": round(pace, 1), "rate": round(rate, 3)}
            line = json.dumps({"time": time.strftime("%H:%M:%S"), **row})
            with (WORK / f"{self.options.name}.jsonl").open("a") as log:
                log.write(line + "\n")
            print(line, flush=True)
            self.logged, self.seen_at_log = now, counters["seen"]
        if now - self.saved > 120:
            self.write(self.path)
            self.saved = now

    def finish(self) -> None:
        """Write the last checkpoint."""
        self.write(self.path)


def main() -> None:
    """Read the options and start the processes."""
    parser = argparse.ArgumentParser(description="Train the UNet.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--anneal", action="store_true")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=16, help="per process")
    parser.add_argument("--levels", type=int, default=2, help="noise levels of each picture")
    parser.add_argument("--rate", type=float, default=2.0)
    parser.add_argument("--noisy", type=float, default=0.6, help="share of captions with meaningless words")
    parser.add_argument("--name", default="base")
    parser.add_argument("--port", type=int, default=29531)
    options = parser.parse_args()
    if options.ranks == 1:
        train(0, options)
        return
    import torch.multiprocessing as processes

    processes.spawn(train, (options,), nprocs=options.ranks)


if __name__ == "__main__":
    restart_with_malloc()
    main()
