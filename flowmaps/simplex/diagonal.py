"""Rules of the diagonal: the cross-entropy with the data, with a teacher, and in an embedding."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..consistency import on_the_diagonal
from ..derivative import stop
from ..velocity import field_of
from .losses import classes_of, cross_entropy, divergence, logits_of, on_simplex


@on_the_diagonal
def token(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Cross-entropy of the data on the diagonal:  -sum x_0 log p(x, s, s).

    Args:
        flow: The flow map.
        teacher: The conditional velocity, which has the pair. x_0 is one-hot, or a distribution over classes.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Not used.

    Returns:
        Nats, (B, 1). The mean over the data is least for p = E[x_0 | x_s].

    Raises:
        ValueError: The flow map predicts no classes, the data are no distributions, or the velocity has no pair.
    """
    z = logits_of(flow)(x, s, s)
    return cross_entropy(classes_of(teacher), z)


@on_the_diagonal
def token_distilled(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Divergence from a teacher's denoiser on the diagonal:  p(x, s, s) = f(x, s).

    Args:
        flow: The flow map.
        teacher: The teacher of the denoiser f.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Not used.

    Returns:
        Nats, (B, 1).
    """
    return divergence(on_simplex(stop(field_of)(teacher, x, s, s)), logits_of(flow)(x, s, s))


@on_the_diagonal
def token_embedded(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Cross-entropy of the data on the diagonal of embedded states:  -sum x_0 log p(x_s, s, s).

    The link of the map is a `links.Hull` of an embedding E (K, d). The state is x_s = alpha x_0 E + sigma eps, with the
    first d columns of the noise of the pair, and the gradient reaches E through it too.

    Args:
        flow: The flow map, of states (B, ..., d).
        teacher: The conditional velocity, which has the pair of one-hot data and noise, (B, ..., K).
        x: Not used: the state of the one-hot data.
        s: Source time, (B, 1, ..., 1).
        t: Not used.

    Returns:
        Nats, (B, 1).

    Raises:
        ValueError: The link has no embedding, or one of more dimensions than classes.
    """
    if not hasattr(flow.link, "embed"):
        raise ValueError("this loss embeds the data: it needs the output fm.Endpoint(link=fm.links.Hull(embedding))")
    x0 = classes_of(teacher)
    embedded = flow.link.embed(x0)
    size = embedded.shape[-1]
    if size > x0.shape[-1]:
        raise ValueError(
            f"an embedding of {size} dimensions needs as many columns of noise, and data of {x0.shape[-1]} classes "
            "have fewer: take at most one dimension for each class"
        )
    state = flow.path.interpolate(embedded, teacher.pair.eps[..., :size], s)
    return cross_entropy(x0, logits_of(flow)(state, s, s))
