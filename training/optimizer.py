"""Muon for the matrices inside networks, Adam for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
BETAS = (0.9, 0.99)


class MuonAdam(torch.optim.Optimizer):
    """Steps along the orthogonal part of a matrix's momentum (Jordan et al. 2024), else Adam's.

    A gradient that has few strong directions so moves a matrix along all of them: a network this small learns in about
    half the steps. What was written down by hand is left to Adam, which changes it less.

    Args:
        matrices: convolutions' and linear layers' weights, which Muon trains.
        others: norms, biases and embeddings.
        written: matrices that were written down. Adam moves every entry alike, so that a sum of hundreds of them moves
            a lot; they get a tenth of its rate.
        matrix_rate: Muon's, as a share of a matrix of norm 1.
        rate: Adam's.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        written: Iterable[nn.Parameter],
        matrix_rate: float,
        rate: float,
    ):
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "peak": matrix_rate, "muon": True},
            {"params": list(others), "peak": rate, "muon": False},
            {"params": list(written), "peak": rate / 10, "muon": False},
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; a group's rate is its `lr`."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._muon if group["muon"] else self._adam)(parameter, parameter.grad, group["lr"])

    def _muon(self, parameter: nn.Parameter, gradient: Tensor, rate: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        flat = gradient.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov's
        scale = max(1.0, flat.shape[0] / flat.shape[1]) ** 0.5
        parameter.add_(orthogonalized(flat).view_as(parameter), alpha=-rate * scale)

    def _adam(self, parameter: nn.Parameter, gradient: Tensor, rate: float) -> None:
        state = self.state[parameter]
        if not state:
            state |= {"steps": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        state["steps"] += 1
        mean = state["mean"].lerp_(gradient, 1 - BETAS[0])
        square = state["square"].lerp_(gradient.square(), 1 - BETAS[1])
        unbiased = (1 - BETAS[1] ** state["steps"]) ** 0.5 / (1 - BETAS[0] ** state["steps"])
        parameter.addcdiv_(mean, square.sqrt().add_(1e-8), value=-rate * unbiased)


def orthogonalized(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, by five steps of Newton and Schulz (coefficients of Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def build_optimizer(
    modules: Iterable[nn.Module], written: Collection[nn.Parameter], matrix_rate: float, rate: float
) -> MuonAdam:
    """The optimizer of a stage's modules.

    Args:
        modules: their weights that require gradients.
        written: those of them that were written down.
        matrix_rate: Muon's.
        rate: Adam's.
    """
    apart = {id(parameter) for parameter in written}
    matrices, others = [], []
    for module in modules:
        for layer in module.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                if parameter.requires_grad and id(parameter) not in apart:
                    hidden = isinstance(layer, (nn.Conv2d, nn.Linear)) and name == "weight"
                    (matrices if hidden else others).append(parameter)
    return MuonAdam(matrices, others, written, matrix_rate, rate)
