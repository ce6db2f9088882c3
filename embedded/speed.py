"""What makes two CPU cores go as far as they can; on a GPU the same calls are harmless.

from embedded.speed import autocast, prepare   # first, before torch allocates
"""

import os

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
    "MALLOC_TOP_PAD_": "200000000",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait make everything else slow
}


def restart_with_malloc() -> None:
    """Start this program again with malloc keeping its memory (8-19 % of CPU time) and threads that wait quietly.

    The C library and OpenMP read these variables once.
    """
    import sys

    if os.environ.get("MALLOC_TOP_PAD_") != MALLOC["MALLOC_TOP_PAD_"]:
        os.environ.update(MALLOC)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def device() -> str:
    """Return where to train."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
