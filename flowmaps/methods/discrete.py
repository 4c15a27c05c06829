"""Methods of discrete data: maps whose denoised field is a distribution over classes."""

from __future__ import annotations

from functools import partial

from ..consistency import lagrangian
from ..derivative import Derivative, detached, jvp
from ..draws import Numbers, uniform
from ..method.method import Method
from ..method.term import Term
from ..simplex import (
    token,
    token_compositional,
    token_endpoint,
    token_eulerian,
    token_lagrangian,
)
from ..times import Times, mixture, uniform_diagonal, uniform_triangle
from ..velocity import VelocitySource, own
from ..weight import Weight, by_interval, plain, summed
from .parts import one_jump
from .row import CLASSES, SELF, landscape_row

__all__ = ["cfm_csd", "cfm_ecld", "dfm_psd", "dfm_lsd", "dfm_esd"]

PAIRS = mixture(1 / 32, one_jump, uniform_triangle())
"""Uniform pairs, and the jump from noise to data in one row of 32."""
DIAGONAL = "E sum -x_0 log p(x_s, s, s)"
"""The loss of the diagonal, in words of a row."""


def with_token(share: float, times: Times, *terms: Term, name: str) -> Method:
    """A method of the cross-entropy with the data on the diagonal, and other terms on the remaining rows."""
    return Method(Term(token, share=share, times=times, weight=plain, name="diffusion"), *terms, name=name)


@landscape_row(
    rule="lagrangian",
    learning=SELF,
    notes="JVP, square error of F; probabilities on the diagonal",
    cost=10,
    shared=4,
    paper="roos2026categorical",
    equation=f"E t^2 | V + (t - s) dV/dt - sg[V(F(x_s, s, t), t, t)] |^2  +  {DIAGONAL}",
    gradient="V and dV/dt, through the softmax",
    gradient_of=("value", "time"),
    output=CLASSES,
)
def cfm_csd(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = by_interval(lambda s, t: t**2, summed),
    derivative: Derivative = jvp,
) -> Method:
    """Categorical flow maps, class self-distillation (CSD).

        E t^2 || V + (t - s) dV/dt - sg[V(F(x_s, s, t), t, t)] ||^2  +  E sum -x_0 log p(x_s, s, s)

    The residual times t is t dF/dt - F + p(F, t, t). Roos et al. 2026, arXiv 2602.12233.

    Args:
        diagonal: Share of the batch for the cross-entropy.
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term.
        weight: Distance and weight of the first residual; by default t^2 times the sum of squares.
        derivative: Mode of dV/dt; by default forward mode with gradient.
    """
    rule = partial(lagrangian, derivative=derivative)
    return with_token(
        diagonal, diagonal_times, Term(rule, own, share=1 - diagonal, times=times, weight=weight), name="cfm_csd"
    )


@landscape_row(
    rule="lagrangian",
    learning=SELF,
    notes="a bound of the Lagrangian loss by a divergence and a slope",
    cost=10,
    shared=4,
    paper="roos2026categorical",
    equation=f"E a KL(sg[p(F, t, t)] | p) + c | t (s - t)/s dp/dt |^2  +  {DIAGONAL}",
    gradient="p and dp/dt",
    gradient_of=("value", "time"),
    output=CLASSES,
)
def cfm_ecld(
    *,
    diagonal: float = 0.75,
    first: float = 1.0,
    second: float = 1.0,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    derivative: Derivative = jvp,
) -> Method:
    """Categorical flow maps, endpoint-consistent Lagrangian distillation (ECLD).

        E a KL(sg[p(F, t, t)] | p) + c || t (s - t)/s dp/dt ||^2  +  E sum -x_0 log p(x_s, s, s)

    The loss bounds the Lagrangian one, and is not zero for the true map. A share of a half with (a, c) = (4, 2)
    collapses a small map to one word; the paper's repositories have (1, 1). Roos et al. 2026, arXiv 2602.12233.

    Args:
        diagonal: Share of the batch for the cross-entropy.
        first: Factor a of the divergence.
        second: Factor c of the slope.
        times: Sampler of (s, t) in the first term.
        diagonal_times: Sampler of s in the second term.
        derivative: Mode of dp/dt; by default forward mode with gradient.
    """
    rule = partial(token_endpoint, first=first, second=second, derivative=derivative)
    term = Term(rule, own, share=1 - diagonal, times=times, weight=plain, name="lagrangian")
    return with_token(diagonal, diagonal_times, term, name="cfm_ecld")


@landscape_row(
    rule="compositional",
    learning=SELF,
    notes="cross-entropy with the probabilities of two jumps",
    cost=8,
    shared=4,
    paper="potaptchik2026discrete",
    equation=f"E KL(sg[((1 - g) t p(x_s, s, m) + g s p(F(x_s, s, m), m, t))/m] | p)  +  {DIAGONAL}",
    gradient="p",
    output=CLASSES,
)
def dfm_psd(
    *,
    diagonal: float = 0.5,
    split: Numbers = uniform,
    times: Times = PAIRS,
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = plain,
) -> Method:
    """Discrete flow maps, progressive self-distillation: the default for discrete data.

        E KL(sg[((1 - g) t p(x_s, s, m) + g s p(F(x_s, s, m), m, t))/m] | p)  +  E sum -x_0 log p(x_s, s, s),
        m = g s + (1 - g) t

    It has no pole, at t = 0 neither. Potaptchik et al. 2026, Discrete Flow Maps, arXiv 2604.09784. The same rule
    distils Flow Language Models, see `fmlm`.

    Args:
        diagonal: Share of the batch for the cross-entropy with the data.
        split: Sampler of g; by default uniform.
        times: Sampler of (s, t) in the first term; by default uniform, with the jump from noise to data in a row of 32.
        diagonal_times: Sampler of s in the second term.
        weight: Weight of the divergence; by default none. `weight.Learned(weight=weight.plain)` learns its scale.
    """
    term = Term(
        token_compositional,
        own,
        share=1 - diagonal,
        times=times,
        weight=weight,
        draws={"g": split},
        name="compositional",
    )
    return with_token(diagonal, diagonal_times, term, name="dfm_psd")


@landscape_row(
    rule="lagrangian",
    learning=SELF,
    notes="cross-entropy with probabilities along dp/dt, stopped",
    cost=8,
    shared=4,
    paper="potaptchik2026discrete",
    equation=f"E KL(sg[p(F, t, t) + t (s - t)/s dp/dt] | p)  +  {DIAGONAL}",
    gradient="p",
    output=CLASSES,
)
def dfm_lsd(
    *,
    diagonal: float = 0.5,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = plain,
    derivative: Derivative = detached,
) -> Method:
    """Discrete flow maps, Lagrangian self-distillation.

        E KL(sg[p(F, t, t) + t (s - t)/s dp/dt] | p)  +  E sum -x_0 log p(x_s, s, s),   F = F(x_s, s, t)

    The target is cut to the simplex. The paper's form in logits loses all digits where p is nearly one-hot.
    Potaptchik et al. 2026, Discrete Flow Maps, arXiv 2604.09784.

    Args:
        diagonal: Share of the batch for the cross-entropy with the data.
        times: Sampler of (s, t) in the first term.
        diagonal_times: Sampler of s in the second term.
        weight: Weight of the divergence; by default none.
        derivative: Mode of dp/dt; by default forward mode without gradient.
    """
    rule = partial(token_lagrangian, derivative=derivative)
    term = Term(rule, own, share=1 - diagonal, times=times, weight=weight, name="lagrangian")
    return with_token(diagonal, diagonal_times, term, name="dfm_lsd")


@landscape_row(
    rule="eulerian",
    learning=SELF,
    notes="cross-entropy with logits along D_s z, stopped",
    cost=8,
    shared=4,
    paper="potaptchik2026discrete",
    equation=f"E KL(sg[softmax(log p(x_s, s, s) - log(t + s (s - t) D_s log p))] | p)  +  {DIAGONAL}",
    gradient="p",
    output=CLASSES,
)
def dfm_esd(
    *,
    diagonal: float = 0.5,
    velocity: VelocitySource = own,
    times: Times = uniform_triangle(0.02),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = plain,
    derivative: Derivative = detached,
) -> Method:
    """Discrete flow maps, Eulerian self-distillation.

        E KL(sg[softmax(log p(x_s, s, s) - log(t + s (s - t) D_s log p))] | p)  +  E sum -x_0 log p(x_s, s, s)

    D_s is the derivative along the velocity. The rule has a pole at t = 0, so times begin at 0.02. Potaptchik
    et al. 2026, Discrete Flow Maps, arXiv 2604.09784.

    Args:
        diagonal: Share of the batch for the cross-entropy with the data.
        velocity: The velocity and the denoiser of the rule: `own`, or `conditional` for the pair's own, which costs a
            pass less and is right on average.
        times: Sampler of (s, t) in the first term.
        diagonal_times: Sampler of s in the second term.
        weight: Weight of the divergence; by default none.
        derivative: Mode of D_s; by default forward mode without gradient.
    """
    rule = partial(token_eulerian, derivative=derivative)
    term = Term(rule, velocity, share=1 - diagonal, times=times, weight=weight, name="eulerian")
    return with_token(diagonal, diagonal_times, term, name="dfm_esd")
