"""The models of `benchmarks.text`: title, method and the ways to sample each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.text.baselines import autoregressive, exact_nats, fill_in, masked_bound, masked_diffusion, write_out
from flowmaps.methods.discrete import PAIRS
from flowmaps.times.clocks import clocked_by_classes

JUMPS = (1, 2, 4, 8, 16)
EULER = (1, 4, 16, 64, 256)
MASKED = (1, 2, 4, 8, 16, 32)
SIZES = {"width": 128, "depth": 4, "heads": 4}
"""The network of all models."""
DRAWS = 32
"""Draws of each held-out row for a bound."""
DIFFUSION = "diffusion"
"""The model whose weights the distillation starts from."""
FLOOR = "floor"
"""Name of the cell with the measures of text itself."""

Sampler = Callable[[fm.FlowMap, int, tuple[int, ...]], Tensor]
"""(flow, n, shape of a row) -> rows (n, L, K)."""


def jumped(flow: fm.FlowMap, n: int, shape: tuple[int, ...], steps: int) -> Tensor:
    """Samples by jumps."""
    return fm.sample(flow, torch.randn(n, *shape), steps)


def followed(flow: fm.FlowMap, n: int, shape: tuple[int, ...], steps: int) -> Tensor:
    """Samples by Euler steps of the velocity."""
    return fm.sample(flow, torch.randn(n, *shape), steps, step=fm.steps.euler)


def samplers(sample: Callable[..., Tensor], name: str, counts: tuple[int, ...]) -> dict[tuple[str, int], Sampler]:
    """One sampler for each number of calls."""
    return {(name, n): lambda flow, rows, shape, n=n: sample(flow, rows, shape, n) for n in counts}


def by_bound(flow: fm.FlowMap, x0: Tensor) -> Tensor:
    """Bound of the nats of rows, (B,), by the denoiser."""
    return -fm.likelihood.log_prob(flow, x0, by=fm.likelihood.tokens(DRAWS)).value


@dataclass(frozen=True)
class Model:
    """A model.

    Attributes:
        title: Its name in tables.
        method: Makes its method; of a distillation from a teacher.
        samplers: Its samplers, by way and number of calls.
        nats: Nats of rows, exactly or a bound.
        causal: Whether the network is causal.
        taught: Whether it is a distillation.
    """

    title: str
    method: Callable[..., fm.Method]
    samplers: dict[tuple[str, int], Sampler]
    nats: Callable[[fm.FlowMap, Tensor], Tensor] = by_bound
    causal: bool = False
    taught: bool = False


def on_clock(method: Callable[..., fm.Method], pairs: fm.times.Times) -> Callable[[], fm.Method]:
    """A method with its times on the clock of Flow Language Models."""
    return lambda: method(
        times=clocked_by_classes(pairs), diagonal_times=clocked_by_classes(fm.times.uniform_diagonal())
    )


JUMPING = samplers(jumped, "jumps", JUMPS) | samplers(followed, "euler", EULER)
MODELS = {
    DIFFUSION: Model("diffusion (diagonal only)", fm.methods.flm, samplers(followed, "euler", EULER)),
    "dfm_psd": Model("`dfm_psd`", fm.methods.dfm_psd, JUMPING),
    "dfm_psd_clock": Model("`dfm_psd` on the clock", on_clock(fm.methods.dfm_psd, PAIRS), JUMPING),
    "dfm_esd": Model("`dfm_esd`", fm.methods.dfm_esd, JUMPING),
    "dfm_lsd": Model("`dfm_lsd`", fm.methods.dfm_lsd, JUMPING),
    "cfm_csd": Model("`cfm_csd`", fm.methods.cfm_csd, JUMPING),
    "cfm_csd_clock": Model(
        "`cfm_csd` on the clock", on_clock(fm.methods.cfm_csd, fm.times.uniform_triangle()), JUMPING
    ),
    "cfm_ecld": Model("`cfm_ecld`", fm.methods.cfm_ecld, JUMPING),
    "fmlm": Model("`fmlm`, distilled from the diffusion", fm.methods.fmlm, JUMPING, taught=True),
    "masked": Model(
        "masked diffusion", masked_diffusion, samplers(fill_in, "unmasking", MASKED),
        lambda flow, x0: masked_bound(flow, x0, DRAWS),
    ),
    "autoregressive": Model(
        "autoregressive", autoregressive, {("symbols", 0): write_out}, exact_nats, causal=True
    ),
}  # fmt: skip
"""A sampler with 0 calls makes as many calls as a row has symbols."""
