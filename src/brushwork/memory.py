"""How much memory this process uses, in bytes: on the accelerator where the model is there, else resident memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

MMAP_THRESHOLD = -3
"""glibc's name of it for ``mallopt``."""
LARGE = 1 << 18
"""Bytes."""


_given_back = False


def give_back_large_blocks() -> None:
    """Let glibc map every block of 256 KiB and more by itself, and so give it back when it is freed.

    Else it raises that limit to 32 MB once such a block is freed. Activations of a few megabytes, which live for very
    different times, then lie in one heap full of holes: a small FLUX took twice what it held. Mapping them anew costs
    time (a third of a step there; less, the wider the layers), so small models are spared it.
    """
    global _given_back  # noqa: PLW0603  (of the process, as the limit is)
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        _given_back = hasattr(libc, "gnu_get_libc_version") and bool(libc.mallopt(MMAP_THRESHOLD, LARGE))


def gives_back() -> bool:
    """Return whether that was done in this process."""
    return _given_back


def used(device: str) -> int:
    """Return what is in use now."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_allocated(device))
    status = Path("/proc/self/statm")
    if status.exists():
        import resource

        return int(status.read_text().split()[1]) * resource.getpagesize()
    return peak(device)


def begin(device: str) -> None:
    """Let ``peak`` count from here on, where the system can forget what was before: Linux, and CUDA's own account."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # a kernel without it, or a process that must not: then it counts from the start
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def peak(device: str) -> int:
    """Return the highest use so far, or since ``begin``."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which a process that was started from a large one inherits across exec.
        (line,) = (each for each in status.read_text().splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
