"""Adafactor in the backward pass: each weight is updated as soon as its gradient is complete, which is then freed.

    optimizer = build([{"params": weights, "lr": 1e-2, "initial_lr": 1e-2}], weight_decay=0.0)
    loss.backward()                         # the weights are the new ones
    optimizer.norm()                        # of all gradients of this pass

Of all gradients one lies in memory at a time (Lv et al. 2023, arXiv:2306.09782, LOMO; here with Adafactor,
arXiv:1804.04235). What has to see all gradients before the first update cannot be had: clipping to their joint norm,
adding up several batches or processes, fp16's loss scale.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from brushwork.errors import RunFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor


@functools.cache
def _kind() -> type[Any]:
    import torch

    class FusedAdafactor(torch.optim.Adafactor):
        """torch's Adafactor, one weight at a time, from hooks; its state and checkpoints are the same."""

        def __init__(self, groups: Sequence[dict[str, Any]], **settings: Any) -> None:
            super().__init__(groups, **settings)
            self._squares: list[float] = []
            for place, group in enumerate(self.param_groups):
                for parameter in group["params"]:
                    parameter.register_post_accumulate_grad_hook(functools.partial(self._update, place))

        def _update(self, place: int, parameter: Tensor) -> None:
            assert parameter.grad is not None, "the hook is called with it"
            self._squares.append(float(torch.linalg.vector_norm(parameter.grad)) ** 2)
            # From the first gradient on that is none, every weight stays as it is; the loop stops the run.
            if math.isfinite(sum(self._squares)):
                groups = self.param_groups
                self.param_groups = [{**groups[place], "params": [parameter]}]
                try:
                    self.step()  # type: ignore[no-untyped-call]  # torch's
                finally:
                    self.param_groups = groups
            parameter.grad = None

        def norm(self) -> float:
            """Return the joint 2-norm of the gradients since this was asked last; NaN or infinite where one was.

            Raises:
                RunFailed: There was none: the loss does not reach what is being trained.
            """
            squares, self._squares = self._squares, []
            if not squares:
                message = (
                    "No trainable weight received a gradient: the loss does not depend on what this method trains."
                )
                raise RunFailed(message)
            return math.sqrt(sum(squares))

    return FusedAdafactor


def build(groups: Sequence[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    """Return the optimizer over torch's parameter groups; its hooks are on the weights from now on."""
    optimizer: torch.optim.Optimizer = _kind()(groups, **settings)
    return optimizer
