"""Baselines of `benchmarks.text` with the same network: an autoregressive and a masked diffusion model, as methods.

Both are trained by `fm.train`, as any method: a term chooses the input of the network (its start) and the loss (its
rule), and the samplers below read the network's logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import flowmaps as fm
from flowmaps.consistency import on_the_diagonal
from flowmaps.simplex import cross_entropy, token

LATEST = 1e-3
"""Smallest share of masked symbols in training, whose inverse is the weight of the loss."""


def at_zero(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sampler of the time of a model without a time: 0."""
    zero = torch.zeros(n, device=like.device)
    return zero, zero


def shifted(x0: Tensor) -> Tensor:
    """Rows (B, L, K) moved by one position: position i holds symbol i - 1, the first one zeros."""
    return torch.nn.functional.pad(x0, (0, 0, 1, 0))[:, :-1]


def autoregressive() -> fm.Method:
    """Cross-entropy of each symbol given the ones before it; the network is causal."""
    start = lambda flow, pair, s: shifted(pair.x0)  # noqa: E731
    return fm.Method(fm.Term(token, times=at_zero, weight=fm.weight.plain, start=start), name="autoregressive")


def masked_rows(flow: fm.FlowMap, pair: fm.velocity.Pair, s: Tensor) -> Tensor:
    """Rows in which a symbol is masked, a row of zeros, with probability s; the noise of its first entry decides."""
    uniform = torch.special.ndtr(pair.eps[..., :1].double())
    return pair.x0 * (uniform >= s.reshape(-1, 1, 1)).to(pair.x0.dtype)


@on_the_diagonal
def unmask(flow: fm.FlowMap, teacher: fm.velocity.Conditional, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Bound of masked diffusion, (1/s) sum over masked symbols of -log p(symbol), in nats (arXiv 2406.07524)."""
    masked = 1 - x.sum(-1, keepdim=True)
    loss = cross_entropy(masked * teacher.pair.x0, flow.value(x, s, s))
    return loss / s.reshape(-1, 1)


def masked_diffusion() -> fm.Method:
    """Masked diffusion with a linear schedule: a symbol is masked at time s with probability s."""
    times = fm.times.uniform_diagonal(LATEST, 1.0)
    return fm.Method(fm.Term(unmask, times=times, weight=fm.weight.plain, start=masked_rows), name="masked_diffusion")


@torch.no_grad()
def write_out(flow: fm.FlowMap, n: int, shape: tuple[int, ...]) -> Tensor:
    """Sample an autoregressive model symbol by symbol; rows (n, L, K)."""
    length, classes = shape
    x = torch.zeros(n, length, classes)
    for position in range(length):
        p = flow.field(shifted(x), 0.0, 0.0)[:, position].double()
        x[:, position] = one_hot(torch.multinomial(p, 1)[:, 0], classes).float()
    return x


@torch.no_grad()
def fill_in(flow: fm.FlowMap, n: int, shape: tuple[int, ...], steps: int) -> Tensor:
    """Sample a masked diffusion model: a step from time s to t draws a masked symbol with probability (s - t)/s."""
    length, classes = shape
    x = torch.zeros(n, length, classes)
    times = torch.linspace(1, 0, steps + 1).tolist()
    for s, t in zip(times, times[1:], strict=False):
        p = flow.field(x, s, s).double()
        drawn = one_hot(torch.multinomial(p.flatten(0, 1), 1)[:, 0], classes).float().reshape(x.shape)
        chosen = (torch.rand(n, length, 1) < (s - t) / s) & (x.sum(-1, keepdim=True) == 0)
        x = torch.where(chosen, drawn, x)
    return x


@torch.no_grad()
def exact_nats(flow: fm.FlowMap, x0: Tensor) -> Tensor:
    """Nats of rows by an autoregressive model, (B,)."""
    return cross_entropy(x0, flow.value(shifted(x0), 0.0, 0.0))[:, 0]


@torch.no_grad()
def masked_bound(flow: fm.FlowMap, x0: Tensor, draws: int) -> Tensor:
    """Bound of the nats of rows by a masked diffusion model, (B,): the mean over stratified times."""
    total = torch.zeros(len(x0))
    for k in range(draws):
        s = ((k + torch.rand(len(x0))) / draws).clamp(min=LATEST)
        x = x0 * (torch.rand(*x0.shape[:-1], 1) >= s.reshape(-1, 1, 1)).float()
        masked = 1 - x.sum(-1, keepdim=True)
        total += cross_entropy(masked * x0, flow.value(x, s, s))[:, 0] / s
    return total / draws
