"""Consistency rules of distributions over classes, as cross-entropies of the denoised field.

The map has an output `fm.Endpoint(link=fm.links.softmax)`, so that its field p = softmax(z) lies in the simplex. On the
linear path V = (x - p)/s, F = (t/s) x + (1 - t/s) p, and the rules of `fm.consistency` become

- token:                -sum x_0 log p(x, s, s), least for p = E[x_0 | x_s]
- token_compositional:  p = [(1 - g) t p(x, s, m) + g s p(F(x, s, m), m, t)]/m,  m = g s + (1 - g) t
- token_lagrangian:     p = p(F, t, t) + t (s - t)/s dp/dt
- token_eulerian:       p = p(x, s, s) - s (s - t)/t D_s p,  D_s along the velocity

On other paths their coefficients are ratios of sigma and `Path.field_slope`. A rule returns one loss for each row, the
cross-entropy with the stopped right side less the entropy of this target, summed over positions, so that it is zero for
the true map and has the gradient of the cross-entropy. Give its term the weight `fm.weight.plain`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .arguments import is_readable
from .consistency import guarded, needs_jumps, needs_marginal_at_the_endpoint, on_the_diagonal
from .derivative import Derivative, detached, jvp, stop
from .links import logits
from .path import Path
from .velocity import field_of, is_conditional

LEAST = 1e-6
"""Least argument of the logarithm in the Eulerian rule."""


def cross_entropy(target: Tensor, z: Tensor) -> Tensor:
    """Cross-entropy -sum q log softmax(z), summed over positions.

    Args:
        target: Probabilities q, (B, ..., K). The loss is linear in them.
        z: Logits of the same shape.

    Returns:
        Nats, (B, 1).
    """
    return -(target * torch.log_softmax(z, -1)).flatten(1).sum(1, keepdim=True)


def divergence(target: Tensor, z: Tensor) -> Tensor:
    """Kullback-Leibler divergence sum q log(q / softmax(z)), summed over positions; 0 where softmax(z) = q.

    Args:
        target: Probabilities q >= 0, (B, ..., K).
        z: Logits of the same shape.

    Returns:
        Nats, (B, 1): the cross-entropy less the entropy of q, which is 0 for one-hot q.
    """
    return cross_entropy(target, z) + torch.special.xlogy(target, target).flatten(1).sum(1, keepdim=True)


def on_simplex(target: Tensor) -> Tensor:
    """Cut negative entries of vectors with sum 1, and divide by the new sum."""
    target = target.clamp(min=0)
    return target / target.sum(-1, keepdim=True)


def _logits_of(flow: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Function (x, s, t) -> logits of a flow map."""
    link = logits(flow)

    def evaluate(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return link(flow.value(x, s, t))

    return evaluate


def _log_slope(z: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities p of logits, and the derivative of log p of a derivative of logits."""
    p = torch.softmax(z, -1)
    return p, dz - (p * dz).sum(-1, keepdim=True)


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A ratio of standard deviations, 0 where both are 0."""
    return numerator / denominator.clamp(min=torch.finfo(denominator.dtype).tiny)


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
    z = _logits_of(flow)(x, s, s)
    return cross_entropy(classes_of(teacher), z)


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
    return cross_entropy(x0, _logits_of(flow)(state, s, s))


def classes_of(teacher: Any) -> Tensor:
    """The data of a conditional velocity, as distributions over classes.

    Raises:
        ValueError: The velocity has no pair, or its data are no distributions over classes.
    """
    if not is_conditional(teacher) or not hasattr(teacher, "pair"):
        raise ValueError("a cross-entropy with the data needs the pair of the batch: velocity=fm.velocity.conditional")
    return classes_in(teacher.pair.x0)


def classes_in(x0: Tensor) -> Tensor:
    """Data that are distributions over classes, checked; values on a GPU are not read.

    Args:
        x0: Rows, (B, ..., K).

    Returns:
        The same rows.

    Raises:
        ValueError: A value is negative, or a sum is not 1.
    """
    readable = is_readable(x0) and x0.device.type == "cpu" and not torch.compiler.is_compiling()
    if readable and not (bool((x0 >= 0).all()) and bool(((x0.sum(-1) - 1).abs() < 1e-3).all())):
        raise ValueError(
            "a cross-entropy needs data whose last dimension is a one-hot class or a distribution over classes, such "
            "as fm.data.tokens makes; these rows are not, and standardised rows are not either"
        )
    return x0


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
    return divergence(on_simplex(stop(field_of)(teacher, x, s, s)), _logits_of(flow)(x, s, s))


def composed(teacher: Any, path: Path, x: Tensor, s: Tensor, t: Tensor, g: Tensor | float) -> Tensor:
    """Field of two jumps in a row, from s to m = g s + (1 - g) t and from m to t.

    Args:
        teacher: The map of the jumps.
        path: The path.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        g: Share of the second jump in the interval, a number or (B, 1, ..., 1).

    Returns:
        (1 - w) D(x, s, m) + w D(F(x, s, m), m, t), of x's shape, with w = g s/m on the linear path, in general
        w = g sigma_s b(m, t) / (sigma_m b(s, t)) with b = `Path.field_slope`. It is a mean, without a pole.
    """
    m = g * s + (1 - g) * t
    first = field_of(teacher, x, s, m)
    second = field_of(teacher, path.jump(first, x, s, m), m, t)
    w = g * _over(path.sigma(s), path.sigma(m)) * path.field_slope(m, t) / path.field_slope(s, t)
    return torch.lerp(first, second, w.to(x.dtype))


@guarded(needs_jumps)
def token_compositional(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, g: Tensor | float = 0.5) -> Tensor:
    """Compositional rule of probabilities:  p  =  sg[(1 - w) p(x, s, m) + w p(F(x, s, m), m, t)], see `composed`.

    Args:
        flow: The flow map, on the left.
        teacher: The flow map of the two jumps on the right.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise; 0 is no pole.
        g: Share of the second jump in the interval.

    Returns:
        Nats, (B, 1).

    Raises:
        ValueError: The flow map predicts no classes, or the teacher is the conditional velocity.
    """
    z = _logits_of(flow)(x, s, t)
    return divergence(on_simplex(stop(composed)(teacher, flow.path, x, s, t, g)), z)


def _lagrangian_factor(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """Factor of dp/dt, t (s - t)/s on the linear path."""
    ratio = _over(path.sigma(t), path.sigma(s)) * path.field_slope(s, t) / path.field_slope(t, t)
    return (s - t) * ratio


def _eulerian_factor(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """Factor of D_s p times sigma_t, s (s - t) on the linear path."""
    return (s - t) * path.sigma(s) * path.field_slope(s, t) / path.field_slope(s, s)


@guarded(needs_marginal_at_the_endpoint)
def token_lagrangian(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = detached
) -> Tensor:
    """Lagrangian rule of probabilities:  p  =  sg[f(F(x, s, t), t) + t (s - t)/s dp/dt], cut to the simplex.

    The same in logits, z = log f - log(1 - t (s - t)/s d log p/dt), loses all digits where p is nearly one-hot.

    Args:
        flow: The flow map.
        teacher: The teacher of the denoiser f, marginal.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        derivative: Mode of dp/dt.

    Returns:
        Nats, (B, 1).

    Raises:
        ValueError: The flow map predicts no classes, or the teacher is the conditional velocity.
    """
    z, dz = derivative(_logits_of(flow), (x, s, t), (0, 0, 1))
    p, slope = _log_slope(z.detach(), dz.detach())
    f = stop(field_of)(teacher, flow.path.jump(p, x, s, t), t, t)
    return divergence(on_simplex(f + _lagrangian_factor(flow.path, s, t).to(p.dtype) * p * slope), z)


@guarded(needs_marginal_at_the_endpoint)
def token_endpoint(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    first: float = 1.0,
    second: float = 1.0,
    derivative: Derivative = jvp,
) -> Tensor:
    """Endpoint-consistent loss, a bound of the Lagrangian one:  a KL(sg[f(F, t)] | p) + c |t (s - t)/s dp/dt|^2.

    It is not zero for the true map (ECLD, Categorical Flow Maps). A large share of it collapses the map to one class.

    Args:
        flow: The flow map.
        teacher: The teacher of the denoiser f, marginal.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        first: Factor a.
        second: Factor c.
        derivative: Mode of dp/dt, which carries gradient.

    Returns:
        Nats, (B, 1).

    Raises:
        ValueError: The flow map predicts no classes, or the teacher is the conditional velocity.
    """
    z, dz = derivative(_logits_of(flow), (x, s, t), (0, 0, 1))
    p, slope = _log_slope(z, dz)
    f = stop(field_of)(teacher, flow.path.jump(p.detach(), x, s, t), t, t)
    change = _lagrangian_factor(flow.path, s, t).to(p.dtype) * p * slope
    return first * divergence(f, z) + second * change.square().flatten(1).sum(1, keepdim=True)


def token_eulerian(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = detached
) -> Tensor:
    """Eulerian rule of probabilities, in logits:  z = sg[log f(x, s) - log(t + s (s - t) d)],  d = D_s log p.

    D_s is the derivative along the velocity, (v, 1, 0). With a conditional velocity the target is x_0 - s (s - t)/t
    D_s p, whose mean is the right one because the cross-entropy is linear in its target, although single targets leave
    the simplex. It has a pole at t = 0.

    Args:
        flow: The flow map.
        teacher: The teacher of the denoiser f and of v, or the conditional velocity.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise, above 0.
        derivative: Mode of D_s.

    Returns:
        Nats, (B, 1); for a conditional velocity the cross-entropy, which is not zero for the true map.

    Raises:
        ValueError: The flow map predicts no classes.
    """
    path, dtype = flow.path, x.dtype
    conditional = is_conditional(teacher)
    f = classes_of(teacher) if conditional else on_simplex(stop(field_of)(teacher, x, s, s))
    slope = path.sigma_slope(s, s) * x + path.field_slope(s, s) * f
    v = teacher.velocity(x, s) if conditional else _over(slope, path.sigma(s)).to(dtype)
    z, dz = derivative(_logits_of(flow), (x, s, t), (v, 1, 0))
    p, d = _log_slope(z.detach(), dz.detach())
    change, sigma = _eulerian_factor(path, s, t).to(dtype) * d, path.sigma(t).to(dtype)
    if conditional:
        return cross_entropy(f - _over(p * change, sigma), z)
    argument = (sigma + change).clamp(min=LEAST)
    tiny = torch.finfo(dtype).tiny
    return divergence(torch.softmax(f.clamp(min=tiny).log() - argument.log(), -1), z)
