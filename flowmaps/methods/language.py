"""Methods of language models by flows: diffusion of tokens on a clock, its flow map, and diffusion of embeddings."""

from __future__ import annotations

from typing import Any

from ..draws import Numbers, uniform
from ..method.method import Method
from ..method.term import Term
from ..simplex import token, token_compositional, token_distilled, token_embedded
from ..times import Times, clocked_by_classes, uniform_diagonal
from ..times.grids import uniform_grid
from ..velocity import LearnedClock, fixed, own
from ..weight import Weight, plain
from .discrete import DIAGONAL, PAIRS
from .row import CLASSES, MARGINAL, TEACHER, landscape_row

__all__ = ["flm", "fmlm", "cdcd"]


@landscape_row(
    rule="diffusion",
    learning=MARGINAL,
    notes="cross-entropy on the clock of the decoding error",
    cost=3,
    shared=3,
    paper="lee2026flow",
    equation=DIAGONAL,
    gradient="p on the diagonal",
    gradient_of=("diagonal",),
    few_step=64,
    output=CLASSES,
)
def flm(*, times: Times = clocked_by_classes(uniform_diagonal())) -> Method:
    """Flow Language Model: the denoiser by cross-entropy, at times at which tokens become known at an even rate.

        E sum -x_0 log p(x_s, s, s),   s on `fm.times.flm_clock(K)`

    It learns the velocity alone: sample it in many steps on `fm.grids.on_clock`, or distil it by `fmlm`. Lee et al.
    2026, arXiv 2602.16813.

    Args:
        times: Sampler of the diagonal; by default uniform on the clock of the classes of the data.
    """
    return Method(Term(token, times=times, weight=plain, name="diffusion"), name="flm")


@landscape_row(
    rule="compositional",
    learning=TEACHER,
    notes="a flow language model as teacher of the diagonal",
    cost=9,
    shared=4.5,
    paper="lee2026flow",
    equation="E KL(sg[((1 - g) t p(x_s, s, m) + g s p(F(x_s, s, m), m, t))/m] | p)  +  E KL(f'(x_s, s) | p(x_s, s, s))",
    gradient="p",
    output=CLASSES,
)
def fmlm(
    teacher: Any = None,
    *,
    diagonal: float = 0.5,
    split: Numbers = uniform,
    times: Times = clocked_by_classes(PAIRS),
    diagonal_times: Times = clocked_by_classes(uniform_diagonal()),
    weight: Weight = plain,
) -> Method:
    """Flow Map Language Model: the semigroup rule on the denoiser of a trained Flow Language Model.

        E KL(sg[((1 - g) t p(x_s, s, m) + g s p(F(x_s, s, m), m, t))/m] | p)  +  E KL(f'(x_s, s) | p(x_s, s, s)),
        f' the teacher's denoiser

    Lee et al. 2026, arXiv 2602.16813.

    Args:
        teacher: A FlowMap trained by `flm`, or any object with velocity(x, t).
        diagonal: Share of the batch for the teacher's denoiser.
        split: Sampler of g; by default uniform.
        times: Sampler of (s, t) in the first term; by default as for `dfm_psd`, on the clock of the classes.
        diagonal_times: Sampler of s in the second term; by default uniform on the clock.
        weight: Weight of both divergences; by default none.
    """
    return Method(
        Term(token_distilled, fixed(teacher), share=diagonal, times=diagonal_times, weight=weight, name="diffusion"),
        Term(
            token_compositional, own, share=1 - diagonal, times=times, weight=weight, draws={"g": split},
            name="compositional",
        ),
        name="fmlm",
    )  # fmt: skip


@landscape_row(
    rule="diffusion",
    learning=MARGINAL,
    notes="cross-entropy in a trained embedding, learned clock",
    cost=3,
    shared=3,
    paper="dieleman2022continuous",
    equation=DIAGONAL + ",  x_s = alpha x_0 E + sigma eps",
    gradient="p on the diagonal, and E",
    gradient_of=("diagonal",),
    output=CLASSES,
    few_step=64,
    own_map="FlowMap(network, Endpoint(link=links.Hull(E, links.unit_rows)), path.VarianceExploding(300))",
)
def cdcd(*, times: Times | None = None) -> Method:
    """Continuous diffusion for categorical data: the denoiser in a trained embedding.

        E sum -x_0 log p(x_s, s, s),   x_s = alpha x_0 E + sigma eps,   s on a learned clock

    The output is `fm.Endpoint(link=fm.links.Hull(E, fm.links.unit_rows))`, so that the field is p E, the paper's score
    interpolation, and the path is `fm.path.VarianceExploding`. The data are one-hot rows (L, K), the states have shape
    (L, d): sample from noise of this shape, and read tokens from the largest logit of `flow.value`. Scale the input of
    the network by `fm.networks.GaussianInput`; the paper's also sees its own guess, `fm.networks.SelfConditioned`.
    Dieleman et al. 2022, arXiv 2211.15089.

    Args:
        times: Sampler of the diagonal. None: a `fm.velocity.LearnedClock` with narrow bins near the data.
    """
    times = LearnedClock(uniform_grid(100) ** 3) if times is None else times
    return Method(Term(token_embedded, times=times, weight=plain, name="diffusion"), name="cdcd")
