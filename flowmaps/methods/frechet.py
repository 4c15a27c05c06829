"""FD-loss: the Fréchet distance of samples and data, by the moments of their features."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from ..draws import WHOLE
from ..matching import Features, featured, features_of
from ..method.method import Method
from ..method.term import Term, noise_alone
from ..velocity import FrechetDistance, conditional, own
from .parts import one_jump
from .row import SAMPLES, landscape_row

__all__ = ["fd_loss"]


@landscape_row(
    rule="distribution",
    learning=SAMPLES,
    notes="one jump from noise; matches two moments of features and nothing else; no path, no inversion, no likelihood",
    cost=3,
    shared=3,
    paper="yang2026representation",
    equation="FD / (sg[FD] + c),  FD = | m - m_r |^2 + tr S + tr S_r - 2 tr (R S R)^(1/2),  R = S_r^(1/2)",
    gradient="F(eps, 1, 0), through the present batch",
    only_source=1.0,
    only_target=0.0,
)
def fd_loss(
    *,
    features: Features | nn.Module | None = None,
    reference: tuple[Tensor, Tensor] | None = None,
    decay: float = 0.0,
    eps: float = 1e-6,
) -> Method:
    """FD-loss, to adjust a trained map.

        FD / (sg[FD] + c),   FD = |m - m_r|^2 + tr S + tr S_r - 2 tr (R S R)^{1/2},   R = S_r^{1/2}

    m and S are mean and covariance of the features of samples F(eps, 1, 0), averaged over the last steps. The value
    is FD itself. Two moments are matched and nothing else: judge the samples by other features. It couples the whole
    batch, so it needs one process, and does not see classes. Yang et al. 2026, arXiv 2604.28190.

    Args:
        features: Function or network that maps rows to features; a network is copied, with constant weights. None: the
            rows themselves, whose two moments say little.
        reference: Mean (D,) and covariance (D, D) of the features of data; then it learns without data. None: they are
            measured in training.
        decay: Decay of the samples' moments for each step, in [0, 1), such as 0.99 for more features than rows. The
            gradient is proportional to 1 - decay, and remembered moments lag behind the map, so that a large learning
            rate makes the distance swing and not fall. 0: the present batch alone.
        eps: Added to eigenvalues, against infinite gradients.

    Raises:
        ValueError: A number is out of range, or the reference is no mean and covariance.
    """
    term = Term(
        partial(featured, features=features_of(features)),
        conditional if reference is None else own,
        times=one_jump,
        weight=FrechetDistance(reference, decay, eps),
        start=noise_alone,
        group=WHOLE,
        name="distribution",
    )
    return Method(term, name="fd_loss")
