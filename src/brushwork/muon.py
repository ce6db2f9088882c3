"""Muon: momentum whose singular values are pushed towards one (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    optimizer = build([{"params": matrices, "lr": 3e-3, "muon": True}, {"params": rest, "lr": 3e-3, "muon": False}])

Weights of two and more dimensions are updated so; AdamW has the rest. An update is scaled by
0.2 sqrt(max(rows, columns)) (Liu et al. 2025, arXiv:2502.16982, equation 4), after which it is about as large as one of
AdamW's, so that one rate serves both. torch's own Muon takes matrices only; here a convolution (O, I, H, W)
is a matrix (O, I H W).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from torch import Tensor, nn

    from brushwork.values import ParameterGroup

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iteration brings singular values in (0, 1] to about 1 in five rounds (Jordan et al.)."""
ROUNDS = 5
RMS = 0.2
"""About the root mean square of AdamW's updates."""
ENDS = ("embedding", "conv_in", "conv_out", "norm", "time_embedding")
ATTENTION = ("to_q", "to_k", "q_proj", "k_proj")
ATTENTION_SHARE = 0.2


def groups(described: Sequence[dict[str, Any]], parts: Sequence[ParameterGroup]) -> list[dict[str, Any]]:
    """Split each part's parameters into what Muon updates, what AdamW updates, and queries and keys.

    Input and output layers, embeddings and vectors are AdamW's, as Muon's author has it. Queries and keys are AdamW's
    at a fifth of the rate: with Muon's large steps their products grew to 100 on our embedded model, the softmax
    saturated, and it stopped to learn.
    """
    split: list[dict[str, Any]] = []
    for settings, part in zip(described, parts, strict=True):
        for kind in ("matrix", "other", "attention"):
            chosen = [parameter for name, parameter in part.parameters.items() if _kind(name, parameter) == kind]
            rate = settings["lr"] * (ATTENTION_SHARE if kind == "attention" else 1.0)
            if chosen:
                group = {"params": chosen, "lr": rate, "initial_lr": rate, "muon": kind == "matrix"}
                split.append({**settings, **group})
    return split


def _kind(name: str, parameter: nn.Parameter) -> str:
    if parameter.ndim < 2 or any(word in name for word in ENDS):  # noqa: PLR2004
        return "other"
    return "attention" if any(word in name for word in ATTENTION) else "matrix"


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return about U V^T of each matrix's singular value decomposition, shape (N, rows, columns), by Newton-Schulz."""
    import torch

    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.size(1) > x.size(2)
    if tall:
        x = x.transpose(1, 2).contiguous()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).float()


def build(
    params: Iterable[dict[str, Any]],
    lr: float = 3e-3,
    *,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Return the optimizer: orthogonalised Nesterov momentum where a group says ``muon``, AdamW elsewhere."""
    settings = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    return _optimizer()(params, {**settings, "muon": True})


@functools.cache
def _optimizer() -> type[torch.optim.Optimizer]:
    """Return the class, which cannot be made before torch is there."""
    import torch

    return type("Muon", (Updates, torch.optim.Optimizer), {})


class Updates:
    """How the weights are updated: a torch optimizer but for its base class."""

    param_groups: list[dict[str, Any]]
    state: dict[Any, dict[str, Any]]

    def step(self, closure: None = None) -> None:  # noqa: ARG002  (as torch calls it)
        """Update every parameter that has a gradient."""
        import torch

        with torch.no_grad():
            for group in self.param_groups:
                parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
                for parameter in parameters:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                if group["muon"]:
                    self._orthogonal(parameters, group)
                else:
                    for parameter in parameters:
                        self._adam(parameter, group)

    def _orthogonal(self, parameters: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        """Orthogonalise the updates of one shape together: few large products instead of many small ones."""
        import torch

        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            shapes.setdefault(parameter.shape, []).append(parameter)
        for shape, alike in shapes.items():
            updates = torch.stack([self._momentum(parameter, group["momentum"]) for parameter in alike])
            scale = RMS * max(updates.shape[1:]) ** 0.5
            for parameter, update in zip(alike, orthogonalized(updates), strict=True):
                parameter.add_(update.reshape(shape), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: nn.Parameter, share: float) -> Tensor:
        """Return the Nesterov momentum as a matrix."""
        import torch

        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        assert parameter.grad is not None
        gradient = parameter.grad.contiguous()
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - share)
        return gradient.lerp(buffer, share).reshape(parameter.size(0), -1)

    def _adam(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        """Update as AdamW does; the weights have decayed already."""
        import torch

        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        assert parameter.grad is not None
        state["step"] += 1
        count = float(state["step"])
        mean = state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
        square = state["exp_avg_sq"].lerp_(parameter.grad.square(), 1 - beta2)
        width = (square / (1 - beta2**count)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, width, value=-group["lr"] / (1 - beta1**count))
