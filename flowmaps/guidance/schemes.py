"""The guidance schemes of the papers, as sources for `guided`.

Common arguments: `null` holds the null conditions by name, such as {"label": 10}; `scale` is the effective scale w;
`interval` is the first and last time s at which guidance acts, or a function from s to the share of (w - 1) that acts
there. In the formulas, u is the conditional velocity of the pair, V(c) and V(null) are the network's velocities without
gradient, and V(c, w) is the velocity of a guidance-conditioned network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import checked, shown, within
from ..method.method import Method
from ..method.several import Several
from .intervals import Fading, Interval, as_interval
from .pairs import ActiveShare, ConstantShare, GuidedConditional, averaged_target, balanced_share, zero_share
from .self_distillation import GuidedSelfDistillation


def guided(method: Method, source: GuidedConditional | GuidedSelfDistillation) -> Method:
    """Train a method towards a guided velocity: `source` replaces the conditional velocity in all of its terms.

    The source also replaces the direction of a derivative. So MeanFlow, AlphaFlow, SoFlow and DMF take the guided
    velocity twice. Improved MeanFlow's derivative is still along the flow's own velocity, which is the guided one.

    Args:
        method: A method that learns from data.
        source: A guidance scheme of this module.

    Returns:
        The guided method.

    Raises:
        TypeError: The method or the source is of another kind.
        ValueError: The method has no velocity that the source could replace. A distillation method takes a guided
            teacher instead.
    """
    if not isinstance(method, Method):
        raise TypeError(f"method must be a Method, such as methods.imf(), got {shown(method)}")
    if not isinstance(source, GuidedConditional | GuidedSelfDistillation):
        raise TypeError(f"source must be a guidance scheme, such as guidance.imf(null=...), got {shown(source)}")
    found = _guided(method, source)
    if all(new.velocity is old.velocity for new, old in zip(found.terms, method.terms, strict=True)):
        raise ValueError(
            f"{method.name} has no velocity that this guidance could replace: give a method that learns from a teacher "
            "a guided teacher, teacher=guidance.classifier_free(...)"
        )
    return found


def _guided(method: Method, source: GuidedConditional | GuidedSelfDistillation) -> Method:
    """Guide all terms of a method, stage by stage."""
    if isinstance(method, Several):
        return method.each(lambda one: _guided(one, source), method.name)
    return Method(*(source.guide_term(term, method) for term in method.terms), name=method.name)


@checked
def meanflow(
    scale: float = 2.0, kappa: float = 0.5, *, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)
) -> GuidedConditional:
    """Guidance of MeanFlow and AlphaFlow: omega u + kappa V(c) + (1 - omega - kappa) V(null).

    Here omega = scale (1 - kappa), so the effective scale omega/(1 - kappa) is `scale`. The paper's omega = 1,
    kappa = 0.5 is scale 2, and omega = 0.2, kappa = 0.92 is scale 2.5.

    Args:
        scale: Effective scale.
        kappa: Share of the network's own velocity, in [0, 1).
        null: Null conditions by name.
        interval: Times at which guidance acts. Elsewhere the target is u.

    Returns:
        The source.

    Raises:
        ValueError: kappa is outside [0, 1), or the scale is not positive.

    Geng et al. 2025, arXiv 2505.13447.
    """
    if not 0 <= kappa < 1:
        raise ValueError(f"the share kappa of the network's own velocity must lie in [0, 1), got {kappa}")
    return GuidedConditional(null, scale, ActiveShare(kappa), as_interval(interval))


@checked
def dmf(scale: float = 2.5, *, null: Mapping[str, Any], interval: Interval = (0.0, 0.7)) -> GuidedConditional:
    """Model guidance, as in decoupled MeanFlow: u + omega (V(c) - V(null)) with omega = 1 - 1/scale.

    Decoupled MeanFlow's omega = 0.6 is scale 2.5.

    Args:
        scale: Effective scale.
        null: Null conditions by name.
        interval: Times at which guidance acts. Elsewhere the target is u.

    Returns:
        The source.

    Tang et al. 2025, arXiv 2502.12154; Lee, Yu and Shin 2025, arXiv 2510.24474.
    """
    return GuidedConditional(null, scale, balanced_share, as_interval(interval))


@checked
def soflow(
    scale: float = 3.0, mix: float = 0.25, *, null: Mapping[str, Any], interval: Interval = Fading()
) -> GuidedConditional:
    """Guidance of SoFlow: m [u + g(s) (scale - 1)(u - V(null))] + (1 - m) V(c).

    Args:
        scale: Effective scale where g = 1.
        mix: Weight m of the pair.
        null: Null conditions by name.
        interval: The function g. By default it fades out above s = 0.8, because the rule takes a derivative in s.

    Returns:
        The source.

    Luo, Yuan and Liu 2025, arXiv 2512.15657.
    """
    within(0, 1, mix=mix)
    return GuidedConditional(null, scale, ConstantShare(1 - mix), as_interval(interval))


@checked
def imf(*, null: Mapping[str, Any], scale: float | None = None, interval: Interval = (0.0, 1.0)) -> GuidedConditional:
    """Guidance of improved MeanFlow: u + (1 - 1/w)(V(c, w) - V(null, 1)).

    On the diagonal guidance acts at all times, so V(x, s, s; c, w) is guided everywhere.

    Args:
        null: Null conditions by name.
        scale: Scale w. None: each row's condition `guidance`, at times s between its conditions `guidance_from` and
            `guidance_to` if they are given. `data.transforms.GuidanceScales` draws all three.
        interval: Times at which guidance acts.

    Returns:
        The source.

    Geng et al. 2025, arXiv 2512.02012.
    """
    return GuidedConditional(null, scale, balanced_share, as_interval(interval))


@checked
def tvm(*, null: Mapping[str, Any], scale: float | None = None, interval: Interval = (0.0, 1.0)) -> GuidedConditional:
    """Guidance of terminal velocity matching: w u + (1 - w) V*(null, 1) with averaged weights V*, residuals over w.

    The diagonal learns the guided velocity, so the other term, which compares with the diagonal, is guided too.

    Args:
        null: Null conditions by name.
        scale: Scale w. None: each row's condition `guidance`.
        interval: Times at which guidance acts.

    Returns:
        The source.

    Zhou, Parger, Haque and Song 2025, arXiv 2511.19797.
    """
    return GuidedConditional(null, scale, zero_share, as_interval(interval), averaged_target, over_scale=True)


@checked
def gft(*, null: Mapping[str, Any], scale: float | None = None, interval: Interval = (0.0, 1.0)) -> GuidedConditional:
    """Guidance-free training: the residual b V(c, w) + (1 - b) V(null, 1) - u with b = 1/w.

    This is the residual of the target w u + (1 - w) V(null, 1), divided by w.

    Args:
        null: Null conditions by name.
        scale: Scale w. None: each row's condition `guidance`.
        interval: Times at which guidance acts.

    Returns:
        The source.

    Chen et al. 2025, arXiv 2501.15420.
    """
    return GuidedConditional(null, scale, zero_share, as_interval(interval), over_scale=True)


@checked
def lsd(*, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)) -> GuidedSelfDistillation:
    """Guidance of self-distillation: the consistency term learns from V(null, 1) + w [V(c, 1) - V(null, 1)].

    The scale w of a row is its condition `guidance`. The diagonal learns from pairs at scale 1. So V(x, s, s; c, 1) is
    not guided, and V(x, s, t; c, w) is the average velocity of scale w. It is for methods whose rule compares with a
    velocity of the flow (lsd, esd).

    Args:
        null: Null conditions by name.
        interval: Times at which guidance acts.

    Returns:
        The source.

    Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825, appendix F.5.
    """
    return GuidedSelfDistillation(null, as_interval(interval))
