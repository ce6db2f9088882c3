"""How much memory this process uses, in bytes: on the accelerator where the model is there, else resident memory."""

from __future__ import annotations

import sys
from pathlib import Path


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


def peak(device: str) -> int:
    """Return the highest use so far."""
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
