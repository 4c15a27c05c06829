"""The guidance of the papers, as sources for `guided`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..method.method import Method
from ..method.stages import Stages
from .conditions import Fading, Interval, as_interval
from .pairs import AtAllTimes, FromPairs, WhereItActs, averaged_target, balanced, none
from .teachers import OfConsistency


def guided(method: Method, source: FromPairs | OfConsistency) -> Method:
    """The method with a source of guidance in it: in the place of the velocity of sampled pairs, also where a
    derivative runs along it.

    So MeanFlow, AlphaFlow, SoFlow and DMF take the guided velocity twice, and improved MeanFlow's derivative goes on to
    run along the flow's own velocity, which is the guided one. Raises ValueError for a method without such a velocity:
    a distillation method gets a guided teacher instead.
    """
    put = _put(method, source)
    if all(new.velocity is old.velocity for new, old in zip(put.terms, method.terms, strict=True)):
        raise ValueError(
            f"{method.name} has no velocity that this guidance could take the place of: a method that learns from a "
            "teacher gets a guided one, teacher=guidance.classifier_free(...)"
        )
    return put


def _put(method: Method, source: FromPairs | OfConsistency) -> Method:
    if isinstance(method, Stages):
        lengths = (end - start for start, end in zip((0.0, *method.ends), method.ends, strict=False))
        stages = [_put(method.method(k), source) for k in range(len(method.ends))]
        return Stages(*zip(lengths, stages, strict=True), name=method.name)
    return Method(*(source.into(term, method) for term in method.terms), name=method.name)


def meanflow(
    scale: float = 2.0, kappa: float = 0.5, *, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)
) -> FromPairs:
    """MeanFlow's mixture, omega u + kappa V(c) + (1 - omega - kappa) V(null) for s in `interval`, u elsewhere, at omega
    = scale (1 - kappa): the effective scale omega/(1 - kappa) is the one that is asked for. AlphaFlow's too.

    The paper's omega = 1, kappa = 0.5 is scale 2, and omega = 0.2, kappa = 0.92 is scale 2.5. ValueError for kappa
    outside [0, 1). Geng et al. 2025, arXiv 2505.13447.
    """
    if not 0 <= kappa < 1:
        raise ValueError(f"the share kappa of the network's own velocity must lie in [0, 1), got {kappa}")
    return FromPairs(null, scale, WhereItActs(kappa), as_interval(interval))


def dmf(scale: float = 2.5, *, null: Mapping[str, Any], interval: Interval = (0.0, 0.7)) -> FromPairs:
    """Model guidance, u + omega (V(c) - V(null)) for s in `interval`, u elsewhere, at omega = 1 - 1/scale.

    The omega = 0.6 of decoupled MeanFlow is scale 2.5. Tang et al. 2025, arXiv 2502.12154; Lee, Yu and Shin 2025, arXiv
    2510.24474.
    """
    return FromPairs(null, scale, balanced, as_interval(interval))


def soflow(
    scale: float = 3.0, mix: float = 0.25, *, null: Mapping[str, Any], interval: Interval = Fading()
) -> FromPairs:
    """SoFlow's,  m [u + g(s) (scale - 1)(u - V(null))] + (1 - m) V(c),  m = mix; g fades out above s = 0.8
    (`conditions.Fading`), as the rule takes a derivative in s. Luo, Yuan and Liu 2025, arXiv 2512.15657.
    """
    return FromPairs(null, scale, AtAllTimes(1 - mix), as_interval(interval))


def imf(*, null: Mapping[str, Any], scale: float | None = None, interval: Interval = (0.0, 1.0)) -> FromPairs:
    """Improved MeanFlow's,  u + (1 - 1/w)(V(c, w) - V(null, 1)),  w the condition `guidance` of the row, acting for s
    between its `guidance_from` and `guidance_to` where they are given (`data.transforms.GuidanceScales` draws
    all three).

    On the diagonal the interval is all times, so V(x, s, s; c, w) is guided everywhere. Geng et al. 2025, arXiv
    2512.02012.
    """
    return FromPairs(null, scale, balanced, as_interval(interval))


def tvm(*, null: Mapping[str, Any], scale: float | None = None, interval: Interval = (0.0, 1.0)) -> FromPairs:
    """Terminal velocity matching's,  w u + (1 - w) V*(null, 1)  of the averaged weights, all residuals divided by w.

    The diagonal is the guided velocity, so that what the other term asks for is guided too. Zhou, Parger, Haque and
    Song 2025, arXiv 2511.19797.
    """
    return FromPairs(null, scale, none, as_interval(interval), averaged_target, over_scale=True)


def gft(*, null: Mapping[str, Any], scale: float | None = None, interval: Interval = (0.0, 1.0)) -> FromPairs:
    """Guidance-free training,  b V(c, w) + (1 - b) V(null, 1) - u  with b = 1/w: the residual of  w u + (1 - w)
    V(null, 1)  divided by w. Chen et al. 2025, arXiv 2501.15420.
    """
    return FromPairs(null, scale, none, as_interval(interval), over_scale=True)


def lsd(*, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)) -> OfConsistency:
    """For self-distillation:  the consistency term learns from  V(null, 1) + w [V(c, 1) - V(null, 1)]  at the row's
    scale w, the condition `guidance`, and the diagonal from pairs at scale 1.

    So V(x, s, s; c, 1) is not guided and V(x, s, t; c, w) is the average velocity of scale w. For methods whose rule
    asks for a velocity (lsd, esd). Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825, appendix F.5.
    """
    return OfConsistency(null, as_interval(interval))
