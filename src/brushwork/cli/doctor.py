"""Check this machine: versions, devices, memory, network, embedded assets, places to write."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from brushwork import __version__, hub
from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "huggingface-hub", "safetensors")
GIB = 2**30
LOW_DISK, LOW_MEMORY = 10 * GIB, 4 * GIB
MARKS = {"ok": "ok  ", "note": "note", "problem": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``advice`` says what to do about it."""

    check: str
    status: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


@click.command()
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check this machine: versions, devices, memory, network, embedded assets, places to write.

    Exits with 1 when something would keep brushwork from working.
    """
    findings = [*_versions(), *_devices(), *_memory(), _hub(), *_assets(), *_places()]
    if as_json:
        print_json([asdict(each) for each in findings])
    else:
        for each in findings:
            click.echo(f"{MARKS[each.status]}  {each.check:<18}{each.found}")
            if each.advice:
                click.echo(f"{'':<24}{each.advice}")
    ctx.exit(1 if any(each.status == "problem" for each in findings) else 0)


def _versions() -> Iterator[Finding]:
    yield Finding("brushwork", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in LIBRARIES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "problem", "not installed", f"pip install {name}")


def _devices() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        kinds = "bf16 and fp16" if torch.cuda.is_bf16_supported() else "fp16, no bf16"
        name = f"cuda:{index}"
        yield Finding(name, "ok", f"{torch.cuda.get_device_name(index)}, {_gib(free)} of {_gib(total)} free, {kinds}")
    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple GPU")
    elif not torch.cuda.is_available():
        advice = "mini trains here in minutes. For Stable Diffusion, use a machine with a GPU of 8 GB or more."
        yield Finding("device", "note", "no GPU that torch can use: everything runs on the CPU", advice)


def _memory() -> Iterator[Finding]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", "ok", f"{cores}")
    memory = psutil.virtual_memory()
    low = memory.available < LOW_MEMORY
    advice = "Close other programs: the demo needs about 2 GB." if low else ""
    found = f"{_gib(memory.available)} of {_gib(memory.total)} free"
    yield Finding("memory", "note" if low else "ok", found, advice)


def _hub() -> Finding:
    """Ask the hub for an answer."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "note", "offline mode (HF_HUB_OFFLINE is set)", "Unset it to fetch models and data sets.")
    reason = hub.unreachable()
    if reason is not None:
        advice = "Only mini, local folders and what is in the hub's cache can be used."
        return Finding("hub", "note", reason, advice)
    token = "a token is set" if get_token() else "no token: gated models need HF_TOKEN"
    return Finding("hub", "ok", f"{constants.ENDPOINT} answers; {token}")


def _assets() -> Iterator[Finding]:
    from brushwork.families import ASSETS, EMBEDDED

    judges = ["mini-clip"]
    folders = [*EMBEDDED, *judges, *(f"datasets/{name}" for name in ("engravings", "sketches", "mascot")), "prompts"]
    missing = [name for name in folders if not (ASSETS / name).is_dir()]
    if missing:
        advice = "The installation is incomplete: pip install --force-reinstall brushwork"
        yield Finding("assets", "problem", f"missing: {', '.join(missing)}", advice)
    else:
        yield Finding("assets", "ok", f"{', '.join(folders)}")


def _places() -> Iterator[Finding]:
    from huggingface_hub import constants

    from brushwork.cache import cache_folder
    from brushwork.runs import RUNS

    for name, path, variable in (
        ("runs", RUNS.absolute(), "--out"),
        ("cache", cache_folder(), "BRUSHWORK_CACHE"),
        ("hub cache", Path(constants.HF_HUB_CACHE), "HF_HOME"),
    ):
        there = next(each for each in (path, *path.parents) if each.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield Finding(name, "problem", f"{path} cannot be written", f"Choose another place with {variable}.")
        elif free < LOW_DISK:
            yield Finding(name, "note", f"{path}, only {_gib(free)} free", f"{variable} chooses another place.")
        else:
            yield Finding(name, "ok", f"{path}, {_gib(free)} free")


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
