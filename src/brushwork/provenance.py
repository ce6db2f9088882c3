"""What a run was made with: versions, the git commit of the working folder, the machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from typing import Any

PACKAGES = ("brushwork", "torch", "diffusers", "transformers", "peft", "accelerate", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of everything that numbers may depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


@functools.cache
def _version(name: str) -> str:
    """Return a package's version, read once: every picture is told it."""
    return importlib.metadata.version(name)


def git() -> dict[str, Any] | None:
    """Return the commit of the working folder and whether it has changes; None outside a repository."""
    try:
        commit = _run("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_run("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None


def _run(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)  # noqa: S603, S607  (fixed words)
    return done.stdout.strip()


def device(name: str) -> dict[str, Any]:
    """Return the device and, for an accelerator, what it is called."""
    import torch

    described: dict[str, Any] = {"type": name, "machine": platform.machine(), "system": platform.system()}
    if name.startswith("cuda"):
        described["name"] = torch.cuda.get_device_name(name)
    else:
        described["threads"] = torch.get_num_threads()
    return described
