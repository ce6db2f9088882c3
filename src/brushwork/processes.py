"""Several processes that train one model together: each does its share of every step.

    accelerate launch --multi_gpu --num_processes 4 -m brushwork train --base ... --data ...
    torchrun --nproc-per-node 4 -m brushwork train --base ... --data ...
    brushwork train --processes 2 --base ... --data ...     # starts the others itself

Sample number p of a run decides everything random about it and a step owns known numbers (``brushwork.batches``), so
every process takes micro-batches of its own and nothing has to be dealt out. A loss is divided by the weights of the
whole step, so the sum of all processes' gradients is the gradient of one process that had done all the micro-batches.
It is made once for each optimizer step, in one message; everything after it is the same arithmetic everywhere.

``exchange`` is the only way in which processes wait for one another, and it carries failures: an error in one process
ends all of them with its message. torch.distributed does the talking: it is what accelerate's and torchrun's launchers
prepare, and summing one flat buffer ourselves leaves the model as it is, where a wrapper would rename its weights.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from brushwork import progress
from brushwork.devices import resolve_device
from brushwork.errors import BrushworkError, ConfigError, RunFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn

Work = TypeVar("Work")

JOINING = datetime.timedelta(minutes=5)
"""How long the others may take to start."""
WAITING = datetime.timedelta(days=30)
"""The main process may draw for hours; one that ends closes its connections, which the others notice at once."""
# What torchrun and accelerate set, then what the MPIs do.
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
LOCAL_RANK = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
LOCAL_SIZE = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")


class PeerFailed(RunFailed):
    """Another process of the run failed, so this one ends too, with its exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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
        self.stop = threading.Event()
        """Set it to ask for an end after the current step."""
        self._stop_agreed = False
        self._control: Any = None  # a gloo group: objects travel over the CPU
        self._sums: Any = None  # the group of the device that the gradients lie on
        self._flat: Tensor | None = None
        self._pieces: list[Tensor] = []

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that talks and writes."""
        return self.rank == 0

    @property
    def stopping(self) -> bool:
        """Whether any process had asked for an end when all last exchanged something: the same in all of them."""
        return self._stop_agreed if self.size > 1 else self.stop.is_set()

    def connect(self) -> None:
        """Meet the others; must be called by all of them.

        Raises:
            RunFailed: Some did not come.
        """
        import torch.distributed as dist

        try:
            if not dist.is_initialized():  # an accelerate.Accelerator may have done it
                os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
                os.environ.setdefault("MASTER_PORT", "29500")
                dist.init_process_group("gloo", rank=self.rank, world_size=self.size, timeout=JOINING)
                atexit.register(leave)
            self._control = self._sums = dist.new_group(backend="gloo", timeout=WAITING)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            message = f"The {self.size} processes that were started did not find one another: {reason}"
            raise RunFailed(message) from error

    def device(self, asked: str) -> str:
        """Return the device of this process: each takes a GPU of its own; must be called by all of them.

        Raises:
            ConfigError: One certain device was asked for.
            UserError: There are fewer GPUs than processes here, or no such device at all.
        """
        device = resolve_device(asked)
        if self.size == 1 or device == "cpu":
            return device
        import torch
        import torch.distributed as dist

        if device != "cuda":
            message = (
                f"train.device={device}: {self.size} processes cannot share it. Leave train.device out, or use cpu."
            )
            raise ConfigError(message)
        if self.local_size > torch.cuda.device_count():
            message = (
                f"{self.local_size} processes were started on a machine with {torch.cuda.device_count()} GPU(s). "
                f"Start as many as there are GPUs, or set train.device=cpu."
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
            dist.all_gather_object(received, (value, self.stop.is_set(), failure), group=self._control)
        except RuntimeError as error:
            raise self._gone() from error
        values, stops, failures = zip(*received, strict=True)
        self._stop_agreed = any(stops)
        told = [(rank, *each) for rank, each in enumerate(failures) if each is not None]
        if told and failure is None:
            rank, text, code = told[0]
            message = f"process {rank}: {text}"
            raise PeerFailed(message, code)
        return list(values)

    def _gone(self) -> PeerFailed:
        message = (
            f"One of the {self.size} processes of this run is gone (killed, or out of memory?), so the others end too. "
            f"The last checkpoint is kept."
        )
        return PeerFailed(message)

    def same(self, **facts: str) -> None:
        """Check that all processes have the same facts.

        Raises:
            UserError: They have not.
        """
        main, *others = self.exchange(facts)
        for rank, other in enumerate(others, 1):
            for what in facts:
                if main[what] != other[what]:
                    message = (
                        f"process {rank} has another {what} than the main process. Start all of them with the same "
                        f"command, and let them see the same files."
                    )
                    raise UserError(message)

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

    def local_share(self, work: Iterable[Work]) -> list[Work]:
        """Return this process's part of some work whose results lie on the machine's disk."""
        return list(work)[self.local_rank :: self.local_size]

    def share(self, work: Iterable[Work]) -> Iterator[Work]:
        """Yield this process's part of some work whose results are exchanged."""
        return itertools.islice(work, self.rank, None, self.size)

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


_world: World | None = None


def join() -> World:
    """Return this process's world, meeting the others at the first call if a launcher started several."""
    global _world  # noqa: PLW0603  (a process is in one world)
    if _world is None:
        world = World(rank(), size(), _variable(LOCAL_RANK, rank()), _variable(LOCAL_SIZE, size()))
        if world.size > 1:
            progress.silence(not world.is_main)
            world.connect()
        _world = world
    return _world


def leave() -> None:
    """Close the connections, which ends the others if they wait for this process; be alone again."""
    global _world
    former, _world = _world, None
    if former is not None and former.size > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
