"""The state of a run that its held-out loss calls best: watched, kept beside the run, and taken when it should be.

    best = Best(keeps=True)
    best.see(100, by_picture(losses, data.digests))     # after every validation
    best.taken                                          # whether the last state is worse by more than noise

Held-out pictures see the same noise at the same timesteps in every validation, so the differences between two states
are paired by picture; whether they are more than noise is asked of the exact sign-flip test. A state that is merely a
little lower by chance therefore never wins over a later one, which has learnt more.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.errors import ModelError
from brushwork.runs import replacing
from brushwork.statistics import sign_flip_test

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

    from brushwork.runs import RunFolder

LEVEL = 0.05
"""Two-sided; with six pictures the smallest p there is, 2^-5, is below it."""
LAST = "last"
"""The folder of the last state's weights where ``weights/`` holds another's."""


@dataclass(frozen=True)
class HeldOut:
    """The validation loss of each held-out picture, averaged over the timesteps that it was noised to."""

    losses: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The validation loss."""
        return statistics.fmean(self.losses)

    @property
    def standard_error(self) -> float | None:
        """How far the mean may be off for other pictures like these; None for a single one."""
        count = len(self.losses)
        return statistics.stdev(self.losses) / math.sqrt(count) if count > 1 else None


def by_picture(losses: Sequence[float], pictures: Sequence[Hashable]) -> HeldOut | None:
    """Average the losses that belong to the same picture; ``pictures`` names each loss's. None without any."""
    of: dict[Hashable, list[float]] = defaultdict(list)
    for picture, loss in zip(pictures, losses, strict=True):
        of[picture].append(loss)
    return HeldOut(tuple(statistics.fmean(each) for each in of.values())) if of else None


def is_worse(later: Sequence[float], earlier: Sequence[float]) -> bool:
    """Return whether losses are higher than others of the same pictures by more than noise, or no numbers at all."""
    differences = [one - other for one, other in zip(later, earlier, strict=True)]
    if not all(map(math.isfinite, differences)):
        return True
    return statistics.fmean(differences) > 0 and sign_flip_test(differences).p <= LEVEL


@dataclass
class Best:
    """Remembers the best and the last validation of a run."""

    keeps: bool
    patience: int | None = None
    step: int = 0
    losses: tuple[float, ...] = ()
    last_step: int = 0
    last: tuple[float, ...] = field(default=(), repr=False)
    waited: int = 0
    """Validations in a row that were worse than the best by more than noise."""

    def see(self, index: int, held_out: HeldOut) -> bool:
        """Remember the validation after step ``index``; return whether it is the best so far and is to be kept."""
        if not self.keeps:
            return False
        self.last_step, self.last = index, held_out.losses
        # Written so that a loss that is no number never counts as the lowest.
        if math.isfinite(held_out.mean) and not (self.losses and held_out.mean >= statistics.fmean(self.losses)):
            self.step, self.losses = index, held_out.losses
        self.waited = self.waited + 1 if self._worse else 0
        return self.step == index

    @property
    def _worse(self) -> bool:
        return bool(self.step) and self.step != self.last_step and is_worse(self.last, self.losses)

    @property
    def over(self) -> bool:
        """Whether the patience is used up."""
        return self.patience is not None and self.waited >= self.patience

    @property
    def taken(self) -> bool:
        """Whether the best state goes before the last one."""
        return self._worse

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        return {name: getattr(self, name) for name in ("step", "losses", "last_step", "last", "waited")}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name, value in state.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)

    def record(self) -> dict[str, Any] | None:
        """Return what run.json says, with a sentence for people; None where nothing was watched."""
        if not self.step:
            return None
        lowest, now = HeldOut(self.losses), HeldOut(self.last)
        numbers: dict[str, Any] = {
            "step": self.step,
            "validation_loss": lowest.mean,
            "validation_error": lowest.standard_error,
            "last_step": self.last_step,
            "last_validation_loss": now.mean,
            "taken": self.taken,
            "stopped_early": self.over,
        }
        return {**numbers, "told": self._told(lowest, now)}

    def _told(self, lowest: HeldOut, now: HeldOut) -> str:
        early = " Training stopped there: the patience was used up." if self.over else ""
        if self.taken:
            return (
                f"The weights are those after step {self.step}: on {len(self.losses)} held-out pictures the loss of "
                f"the last state, step {self.last_step}, is higher by more than noise ({now.mean:.4f} against "
                f"{lowest.mean:.4f}). That state is in {LAST}/.{early}"
            )
        if self.step == self.last_step:
            return f"The weights are the last ones, after step {self.last_step}: no validation loss was lower."
        return (
            f"The weights are the last ones, after step {self.last_step}: step {self.step} had a lower validation "
            f"loss, but by no more than noise."
        )


def folder(run: RunFolder, index: int | None = None) -> Path:
    """Return where the best state so far lies while a run trains, or that of one step."""
    home = run.path / "best"
    return home if index is None else home / str(index)


def tidy(run: RunFolder, keep: int) -> None:
    """Remove every kept state but that of step ``keep``: after a checkpoint that no longer needs it, or to go back."""
    home = folder(run)
    for each in home.iterdir() if home.is_dir() else []:
        if each.name != str(keep):
            shutil.rmtree(each)


def check(best: Best, run: RunFolder) -> None:
    """Refuse to go on where the best state is missing.

    Raises:
        ModelError: Somebody removed it.
    """
    # Once ``weights/`` is there it is what was taken, and the copy has gone.
    if best.step and not folder(run, best.step).is_dir() and not run.weights.is_dir():
        message = (
            f"{folder(run, best.step)}: the best state so far is not there, so the run cannot go on exactly. Put it "
            f"back, or start a new run."
        )
        raise ModelError(message)


def conclude(best: Best, run: RunFolder, write: Callable[[Path], None]) -> None:
    """Fill ``weights/``: with the last state, or with the best and ``last/`` with the last. May be done twice.

    Args:
        best: The run's validations.
        run: Its folder.
        write: Writes the last state to a folder.
    """
    if not best.taken:
        write(run.weights)
    else:
        write(run.path / LAST)
        kept = folder(run, best.step)
        if kept.is_dir():  # otherwise a kill came between the two lines below, and it is in weights/ already
            with replacing(run.weights) as temporary:
                shutil.copytree(kept, temporary)
    shutil.rmtree(folder(run), ignore_errors=True)
