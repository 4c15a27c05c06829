"""The two-mode chain x_{k+1} = 0.8 x_k + n, n ~ 1/2 N(0.6, 0.15^2) + 1/2 N(-0.6, 0.15^2), and its exact head."""

from itertools import pairwise

import torch
from torch import Tensor, nn

import flowmaps as fm

DECAY, MODE, STD = 0.8, 0.6, 0.15
VARIANCE = (MODE**2 + STD**2) / (1 - DECAY**2)
GRID = torch.linspace(-1.6, 1.6, 40_001, dtype=torch.float64)


def cdf(x: Tensor, t: float) -> Tensor:
    """Distribution of n on the linear path at time t: modes at +-(1-t) 0.6 of variance (1-t)^2 std^2 + t^2."""
    mean, std = (1 - t) * MODE, ((1 - t) ** 2 * STD**2 + t**2) ** 0.5
    return 0.5 * (torch.special.ndtr((x - mean) / std) + torch.special.ndtr((x + mean) / std))


def innovation(noise: Tensor) -> Tensor:
    """The exact jump C^-1(Phi(eps)) of n, by linear interpolation of a table with steps of 8e-5."""
    table, wanted = cdf(GRID, 0.0), torch.special.ndtr(noise)
    k = torch.searchsorted(table, wanted).clamp(1, len(GRID) - 1)
    low, high = table[k - 1], table[k]
    return GRID[k - 1] + (wanted - low) / (high - low).clamp(min=1e-300) * (GRID[k] - GRID[k - 1])


class ExactHead(nn.Module):
    """V(x, 1, 0 | z) of the chain, with the last frame as the context z."""

    shape = (1,)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, context: Tensor) -> Tensor:
        assert bool((s == 1).all()) and bool((t == 0).all())
        return x - (DECAY * context + innovation(x))


class MeanHead(nn.Module):
    """A head that predicts the mean of the next frame, as one trained by squares does."""

    shape = (1,)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return x - DECAY * context


class LastFrame(nn.Module):
    """The backbone of a chain of order one: the last frame, 0 at the start."""

    size = 1

    def forward(self, past: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(past[:, :1]), past[:, :-1]], 1)

    def begin(self, rows: int) -> int:
        return rows

    def next(self, state: int, frame: Tensor | None) -> tuple[Tensor, int]:
        return torch.zeros(state, 1, dtype=torch.float64) if frame is None else frame, state


def model(head: nn.Module) -> fm.Autoregressive:
    """The chain with a head."""
    return fm.Autoregressive(fm.FlowMap(head, only_source=1.0, only_target=0.0), LastFrame()).double()


def rows(n: int, length: int, seed: int) -> Tensor:
    """Sequences of the chain in its stationary state, (n, length, 1)."""
    draws = torch.Generator().manual_seed(seed)
    signs = 2 * torch.randint(0, 2, (length + 40, n), generator=draws) - 1
    n_k = MODE * signs + STD * torch.randn(length + 40, n, generator=draws, dtype=torch.float64)
    states = [torch.zeros(n, dtype=torch.float64)]
    for step in n_k:
        states.append(DECAY * states[-1] + step)
    return torch.stack(states[-length:], 1)[..., None]


def entropy_rate() -> float:
    """Entropy of n in nats, by the trapezoid rule."""
    density = sum(torch.exp(-((GRID - mean) ** 2) / 2 / STD**2) for mean in (MODE, -MODE)) / (
        2 * STD * (2 * torch.pi) ** 0.5
    )
    values = -torch.special.xlogy(density, density)
    return sum(float(a + b) for a, b in pairwise(values[::8])) / 2 * float(GRID[8] - GRID[0])
