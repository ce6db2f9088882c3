"""Child processes by their CPU time, ratios, and what they were measured on.

cost = run_child([sys.executable, "-c", "pass"], {"OMP_NUM_THREADS": "1"})
print(cost.cpu)
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = 3000
"""Characters of a failed child's output that are worth showing."""


class ChildError(RuntimeError):
    """A measured process did not end well."""


@dataclass(frozen=True)
class Cost:
    """What one process and its own children used: seconds, and bytes of memory at the peak."""

    cpu: float
    wall: float
    memory: int


def run_child(command: Sequence[str | Path], environment: Mapping[str, str]) -> Cost:
    """Run a process to its end and return what it cost, from the operating system's own account.

    Raises:
        ChildError: It exited with an error; the message has the end of its output.
    """
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        child = subprocess.Popen(  # noqa: S603  (our own command)
            [str(part) for part in command],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)  # it was waited for here, not by subprocess
        wall = time.perf_counter() - began
        if child.returncode:
            output.seek(0)
            end = output.read().decode(errors="replace")[-SHOWN:]
            message = f"{' '.join(str(part) for part in command)}\nexited with {child.returncode}:\n{end}"
            raise ChildError(message)
    kilobytes = 1 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * kilobytes)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    packages = ("brushwork", "torch", "diffusers", "transformers", "accelerate", "peft", "datasets")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return platform.processor() or platform.machine()
    fields = [line.partition(":") for line in information.read_text("utf-8").splitlines()]
    values = {name.strip(): value.strip() for name, _, value in reversed(fields)}
    words = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if name in values.get("flags", "").split()]
    return f"{values.get('model name', platform.machine())} ({', '.join(words)})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
