"""Several processes that train one model together: each does its share of every step.

    accelerate launch --multi_gpu --num_processes 4 -m brushwork train --base ... --data ...
    torchrun --nproc-per-node 4 -m brushwork train --base ... --data ...
    brushwork train --processes 2 --base ... --data ...     # starts the others itself

Sample number p of a run decides everything random about it and a step owns known numbers (``brushwork.batches``), so
every process takes the micro-batches of its own and nothing has to be dealt out. A loss is divided by the weights of the
whole step, so the sum of all processes' gradients is the gradient of one process that had done all the micro-batches.
It is made once for each optimizer step, in one message; everything after it is the same arithmetic everywhere.

``exchange`` is the only way in which processes wait for one another, and it carries failures: an error in one process
ends all of them with its message. torch.distributed does the talking: it is what accelerate's and torchrun's launchers
prepare, and summing one flat buffer ourselves leaves the model as it is, where a wrapper would rename its weights.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from brushwork import progress
from brushwork.errors import BrushworkError, ConfigError, RunFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn

JOINING = datetime.timedelta(minutes=10)
"""How long the others may take to start."""
WAITING = datetime.timedelta(days=30)
"""The main process may draw or encode for hours; a process that ends closes its connections, which is noticed at once."""
PATIENCE = 20.0
"""Seconds that a process which we started is given to end by itself."""
# What torchrun and accelerate set, then what the MPIs do.
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
LOCAL_RANK = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
LOCAL_SIZE = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")


class PeerFailed(RunFailed):
    """Another process of the run failed, so this one ends too."""


def _variable(names: Sequence[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), default)


def rank() -> int:
    """Return which process this is, without joining the others: 0 is the main one, which talks and writes."""
    return _variable(RANK, 0) if size() > 1 else 0


def size() -> int:
    """Return how many processes a launcher started."""
    return _variable(SIZE, 1)


class World:
    """This process among those that train one model; alone, it exchanges with nobody."""

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self._control: Any = None  # a gloo group: objects travel over the CPU
        self._sums: Any = None  # the group of the device that the gradients lie on
        self._flat: Tensor | None = None
        self._pieces: list[Tensor] = []

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that talks and writes."""
        return self.rank == 0

    def connect(self) -> None:
        """Meet the others; must be called by all of them."""
        import torch.distributed as dist

        if not dist.is_initialized():  # an accelerate.Accelerator may have done it
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29500")
            dist.init_process_group("gloo", rank=self.rank, world_size=self.size, timeout=JOINING)
        self._control = self._sums = dist.new_group(backend="gloo", timeout=WAITING)

    def device(self, asked: str) -> str:
        """Return the device of this process: each takes a GPU of its own; must be called by all of them.

        Raises:
            ConfigError: One certain device was asked for.
            UserError: There are fewer GPUs than processes here.
        """
        if self.size == 1 or asked == "cpu":
            return asked
        import torch
        import torch.distributed as dist

        if asked != "cuda":
            message = f"train.device={asked}: {self.size} processes cannot share it. Leave train.device out, or use cpu."
            raise ConfigError(message)
        if self.local_size > torch.cuda.device_count():
            message = (
                f"{self.local_size} processes were started on a machine with {torch.cuda.device_count()} GPU(s). "
                f"Start as many as there are GPUs."
            )
            raise UserError(message)
        torch.cuda.set_device(self.local_rank)
        self._sums = dist.new_group(backend="nccl", timeout=WAITING)
        return f"cuda:{self.local_rank}"

    def exchange(self, value: Any = None, *, failure: tuple[str, int] | None = None) -> list[Any]:
        """Wait for all processes; return what each of them brought, in the order of their ranks.

        Raises:
            PeerFailed: Another process told of a failure instead, or is gone.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        received: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(received, (value, failure), group=self._control)
        except RuntimeError as error:
            raise self._gone() from error
        told = {rank: each for rank, (_, each) in enumerate(received) if each is not None}
        if told and failure is None:
            rank, (text, code) = next(iter(told.items()))
            error = PeerFailed(f"process {rank}: {text}")
            error.exit_code = code
            raise error
        return [each for each, _ in received]

    def _gone(self) -> PeerFailed:
        message = (
            f"One of the {self.size} processes of this run is gone (killed, or out of memory?), so the others ended too."
        )
        return PeerFailed(message)

    def decide(self, value: Any) -> Any:
        """Return the main process's value, in all of them."""
        return self.exchange(value)[0]

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Within this context an error is told to the others, wherever they wait next; it then goes on as usual."""
        try:
            yield
        except PeerFailed:
            raise
        except Exception as error:
            text = str(error) if isinstance(error, BrushworkError) else f"{type(error).__name__}: {error}"
            code = error.exit_code if isinstance(error, BrushworkError) else 1
            with contextlib.suppress(PeerFailed):
                self.exchange(failure=(text, code))
            raise

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do the block before the others, who then find what it made."""
        if not self.is_main:
            self.exchange()
        yield
        if self.is_main:
            self.exchange()

    def share(self, work: Iterable[str]) -> list[str]:
        """Return this process's part of some work whose results the processes of a machine share."""
        return list(work)[self.local_rank :: self.local_size]

    def micro_batches(self, start: int, stop: int, count: int) -> Iterator[range]:
        """Yield the sample numbers of this process's micro-batches of ``count``: every ``size``-th one."""
        for first in range(start + self.rank * count, stop, count * self.size):
            yield range(first, min(first + count, stop))

    def sum_gradients(self, parameters: Sequence[nn.Parameter], losses: list[float], count: int) -> list[float]:
        """Add up all processes' gradients; return all losses of the step in the order of the sample numbers.

        Args:
            parameters: Every trained one; a gradient that no process has stays None.
            losses: This process's, its micro-batches of ``count`` one after the other.
            count: Samples in a micro-batch.
        """
        if self.size == 1:
            return losses
        import torch
        import torch.distributed as dist

        own = [parameter.grad is not None for parameter in parameters]
        flat = self._flatten(parameters)  # before the exchange: after it nothing may fail here alone
        rows = self.exchange((losses, own))
        try:
            dist.all_reduce(flat, group=self._sums)
        except RuntimeError as error:
            raise self._gone() from error
        anywhere = torch.tensor([present for _, present in rows]).any(0).tolist()
        for parameter, piece, present in zip(parameters, self._pieces, anywhere, strict=True):
            parameter.grad = piece if present else None
        firsts = range(0, len(losses), count)
        return [loss for first in firsts for row, _ in rows for loss in row[first : first + count]]

    def _flatten(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Copy the gradients one after the other into one buffer, which is kept; a missing one counts as zero."""
        import torch

        if self._flat is None or len(self._pieces) != len(parameters):
            first = parameters[0]
            self._flat = torch.empty(sum(map(torch.numel, parameters)), dtype=first.dtype, device=first.device)
            starts = [0]
            for parameter in parameters:
                starts.append(starts[-1] + parameter.numel())
            # In the layout that the weights have in memory (channels_last), as the optimizer wants it.
            self._pieces = [
                torch.as_strided(self._flat, parameter.shape, parameter.stride(), start)
                for parameter, start in zip(parameters, starts[:-1], strict=True)
            ]
        pairs = list(zip(self._pieces, parameters, strict=True))
        with torch.no_grad():
            present = [(piece, parameter.grad) for piece, parameter in pairs if parameter.grad is not None]
            torch._foreach_copy_([piece for piece, _ in present], [grad for _, grad in present])
            for piece, parameter in pairs:
                if parameter.grad is None:
                    piece.zero_()
        return self._flat


@contextlib.contextmanager
def launched(count: int | None) -> Iterator[None]:
    """Within this context this is the first of ``count`` processes; the others run the same command line.

    Raises:
        UserError: A launcher has started another number of them.
    """
    if size() > 1 or count in (None, 1):
        if count not in (None, size()):
            message = f"--processes {count}: {size()} were started already, by a launcher. Leave --processes out."
            raise UserError(message)
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared = {name: str(value) for name, value in world.items()}
    # More threads than cores slow each other down; read when torch is imported.
    shared |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))}
    kept = {name: os.environ.get(name) for name in (*shared, "RANK", "LOCAL_RANK")}
    command = [sys.executable, "-m", "brushwork", *sys.argv[1:]]
    others = [
        subprocess.Popen(  # noqa: S603  (our own command line)
            command,
            env={**os.environ, **shared, "RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.DEVNULL,
        )
        for number in range(1, count)
    ]
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    try:
        yield
    finally:
        for each in others:
            _end(each)
        for name, value in kept.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a process end by itself, which it does when the main one has; if it does not, end it."""
    for act in (process.terminate, process.kill):
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            act()
    process.wait()


_world: World | None = None


def join() -> World:
    """Return this process's world, meeting the others at the first call if a launcher started several."""
    global _world  # noqa: PLW0603  (a process is in one world)
    if _world is None or (_world.size != size()):
        world = World(rank(), size(), _variable(LOCAL_RANK, rank()), _variable(LOCAL_SIZE, size()))
        if world.size > 1:
            world.connect()
            progress.silence(not world.is_main)
        _world = world
    return _world
