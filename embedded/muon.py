"""Muon (Jordan et al. 2024) for the matrices and convolutions, AdamW for the rest, in one optimizer object.

    optimizer = Muon(model.named_parameters(), lr=0.01, adam_lr=1e-3)
    for group in optimizer.param_groups: group["lr"] = group["peak"] * schedule(step)

Muon's update is the momentum with its singular values pushed towards one, which needs fewer samples than Adam's on
these nets (the figures are in README.md). Queries and keys are better left to a slow AdamW: under Muon their products
grew to 100 within a thousand steps, every head looked at the first token only, and no noun was learnt.
"""

from collections.abc import Iterable
from typing import Any

import torch
from brushwork.muon import ATTENTION, ENDS, orthogonalized


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for weights of two and more dimensions, AdamW for embeddings, norms and ends."""

    def __init__(
        self,
        named: Iterable[tuple[str, torch.nn.Parameter]],
        lr: float = 0.01,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        """Split the parameters by their names and shapes."""
        matrices, attention, others = [], [], []
        for name, parameter in named:
            if any(word in name for word in ATTENTION):
                attention.append(parameter)
            elif parameter.ndim < 2 or any(word in name for word in ENDS):
                others.append(parameter)
            else:
                matrices.append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": matrices, "muon": True, "lr": lr, "peak": lr},
            {"params": others, "muon": False, "lr": adam_lr, "peak": adam_lr},
            {"params": attention, "muon": False, "lr": adam_lr / 5, "peak": adam_lr / 5},
        ]
        super().__init__(groups, {"momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - as torch calls it
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                self._muon(parameters, group)
            else:
                for parameter in parameters:
                    self._adam(parameter, group)

    def _muon(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Orthogonalise matrices of one shape together, shared among the processes where there are several."""
        updates = [self._momentum(p, group["momentum"]) for p in parameters]
        shapes: dict[torch.Size, list[int]] = {}
        for number, update in enumerate(updates):
            shapes.setdefault(update.shape, []).append(number)
        team = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if team else (0, 1)
        for numbers in shapes.values():
            mine = numbers[rank::ranks]
            for number in set(numbers) - set(mine):
                updates[number] = torch.zeros_like(updates[number])
            if mine:
                for number, update in zip(mine, orthogonalized(torch.stack([updates[n] for n in mine])), strict=True):
                    updates[number] = update
        if team:
            flat = torch.cat([u.flatten() for u in updates])
            torch.distributed.all_reduce(flat)
            parts = flat.split([u.numel() for u in updates])
            updates = [part.view(u.shape) for part, u in zip(parts, updates, strict=True)]
        for parameter, update in zip(parameters, updates, strict=True):
            scale = max(1.0, update.size(0) / update.size(1)) ** 0.5
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: torch.Tensor, share: float) -> torch.Tensor:
        """Return the Nesterov momentum as a matrix."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        gradient = parameter.grad.contiguous()
        buffer = state["momentum"].lerp_(gradient, 1 - share)
        return gradient.lerp(buffer, share).reshape(parameter.size(0), -1)

    def _adam(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["count"], state["mean"] = 0, torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["count"] += 1
        mean = state["mean"].lerp_(parameter.grad, 0.1)
        square = state["square"].lerp_(parameter.grad.square(), 0.01)
        scale = (1 - 0.9 ** state["count"]), (1 - 0.99 ** state["count"])
        parameter.addcdiv_(mean / scale[0], (square / scale[1]).sqrt_().add_(1e-8), value=-group["lr"])
