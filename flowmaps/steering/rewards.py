"""Rewards: the log-weights that steering gives to data.

A reward is any function of data x0 (B, ...) that returns one number for each row, (B,). Steering samples the law

    p(x0) e^{r(x0)} / Z.

A plain function is enough. The rewards of this module add (`+`), scale (`*`), and know more: their mean over a Gaussian
(`widened`), and whether they tilt a flow exactly (`isotropic`, `quadratic`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import brief_repr, expect_finite, finite, positive, shown
from ..exact.quadratic import Quadratic
from .operators import Linearised, Operator, as_operator, blur, downsample, mask
from .spread import Spread, log_normal

__all__ = [
    "Decoded", "Label", "Likelihood", "Linear", "Operator", "Distance", "Reward", "Scaled", "Sum", "blur", "decoded",
    "downsample", "label", "mask", "rewarded", "scaled",
]  # fmt: skip

Rewards = Callable[[Tensor], Tensor]
"""x0 (B, ...) -> (B,)."""


class Reward:
    """Base class of the rewards of this module."""

    def __call__(self, x0: Tensor) -> Tensor:
        """The reward of data, (B,)."""
        raise NotImplementedError

    def widened(self, x0: Tensor, spread: Spread) -> Tensor:
        """Log E e^{r(X)} for X ~ N(x0, spread), (B,).

        Raises:
            TypeError: It has no closed form.
        """
        raise TypeError(
            f"look.widened and look.moments need a reward with a Gaussian mean, fm.rewards.Likelihood or Linear, and "
            f"{type(self).__name__} has none: look by look.denoise, or by draws such as look.glass"
        )

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """The vector l, of the shape of a row or of x, and the number q of r = l . x0 - q |x0|^2/2 + constant.

        Raises:
            TypeError: The reward has another form.
        """
        raise TypeError(
            f"only a linear reward and the likelihood of a measurement a x0 tilt a flow exactly, and "
            f"{type(self).__name__} is neither: use fm.steering.tilt with a value"
        )

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The reward as a polynomial of degree two, for `fm.exact.GaussianMixture.tilted`.

        Raises:
            ValueError: It is none.
        """
        raise ValueError(f"{type(self).__name__} is no quadratic reward")

    def __add__(self, other: Rewards) -> Sum:
        return Sum((self, other))

    def __radd__(self, other: Rewards) -> Sum:
        return Sum((other, self))

    def __mul__(self, k: float) -> Scaled:
        return Scaled(self, k)

    __rmul__ = __mul__


@dataclass(frozen=True, repr=False)
class Linear(Reward):
    """Linear reward c . x0.

    Args:
        c: Coefficients, of the shape of one row; or one row for each row of data.

    Raises:
        TypeError: c is no tensor of floating-point numbers.
        ValueError: A coefficient is not finite.
    """

    c: Tensor

    def __post_init__(self) -> None:
        c = self.c if isinstance(self.c, Tensor) else torch.as_tensor(self.c)
        if not c.is_floating_point():
            raise TypeError(f"the coefficients of a linear reward are floating-point numbers, got {shown(self.c)}")
        expect_finite("the coefficients of a linear reward", c.reshape(1, -1))
        object.__setattr__(self, "c", c)

    def __call__(self, x0: Tensor) -> Tensor:
        """The reward c . x0, (B,)."""
        return (self._like(x0) * x0).flatten(1).sum(1)

    def widened(self, x0: Tensor, spread: Spread) -> Tensor:
        """C . x0 + c . spread(c)/2."""
        c = self._like(x0).expand(x0.shape)
        return self(x0) + (c * spread(c)).flatten(1).sum(1) / 2

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """C and 0."""
        return self._like(x), 0.0

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The coefficients, flattened."""
        if self.c.shape != shape:
            raise ValueError(f"a linear reward of shape {tuple(self.c.shape)} does not fit rows of {tuple(shape)}")
        return Quadratic(self.c.flatten())

    def _like(self, x: Tensor) -> Tensor:
        c = self.c.to(x)
        if c.shape not in (x.shape[1:], x.shape):
            raise ValueError(
                f"the coefficients of a linear reward have the shape of a row, {tuple(x.shape[1:])}, got "
                f"{tuple(c.shape)}"
            )
        return c

    __repr__ = brief_repr


@dataclass(frozen=True, repr=False)
class Likelihood(Reward):
    """Gaussian log-likelihood of a measurement, log N(y; A(x0), std^2 I): the reward of an inverse problem.

    Args:
        A: Measurement operator: `mask(kept)`, `blur(sigma)`, `downsample(factor)`, a matrix (M, D) on flattened rows, a
            number a for a x0, or a differentiable function x0 -> measurement (B, ...).
        y: The measurement: one for all rows, of the shape of A(x0) without rows, or one for each row.
        std: Standard deviation of the noise in y.

    Raises:
        TypeError: A or y is of another kind.
        ValueError: std is not positive or y is not finite. In calls: y and A(x0) have different shapes.

    With it, Z is the evidence p(y), and the steered law is the posterior p(x0 | y).
    """

    A: Any
    y: Tensor
    std: float

    def __post_init__(self) -> None:
        y = self.y if isinstance(self.y, Tensor) else torch.as_tensor(self.y, dtype=torch.float64)
        expect_finite("the measurement y", y.reshape(1, -1))
        object.__setattr__(self, "A", as_operator(self.A))
        object.__setattr__(self, "y", y.detach())
        positive(std=self.std)

    def __call__(self, x0: Tensor) -> Tensor:
        """The log-likelihood of data, (B,)."""
        return log_normal(self.residual(x0), self.std**2)

    def residual(self, x0: Tensor) -> Tensor:
        """The residual y - A(x0), (B, M)."""
        found = self.A(x0)
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(x0):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"a measurement operator returns a row for each of {len(x0)} rows, got {got}")
        y = self.y.to(found)
        if y.shape not in (found.shape, found.shape[1:]) and y.numel() != 1:
            raise ValueError(
                f"the measurement y has shape {tuple(y.shape)}, but A(x0) has rows of shape {tuple(found.shape[1:])}"
            )
        return (y - found).reshape(len(x0), -1)

    def widened(self, x0: Tensor, spread: Spread) -> Tensor:
        """Log N(y; A(x0), std^2 I + A spread A^T), with the derivative of A at x0 for a nonlinear A."""
        return spread.log_likelihood(self.residual(x0), self.std**2, Linearised(self.A, x0))

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """A y/std^2 and a^2/std^2, for the operator a x0."""
        if self.A.factor is None:
            return super().isotropic(x)
        at_zero = self.residual(torch.zeros_like(x)).reshape(x.shape)
        return self.A.factor * at_zero / self.std**2, self.A.factor**2 / self.std**2

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The log-likelihood of a linear measurement as a polynomial over the flattened coordinates."""
        if not self.A.linear:
            raise ValueError("the likelihood of a nonlinear measurement is no quadratic reward")
        size = shape.numel()
        y = self.residual(torch.zeros(2, *shape, dtype=self.y.dtype, device=self.y.device))
        if not torch.equal(y[0], y[1]):
            raise ValueError("one measurement tilts a distribution, and y has one for each row")
        unit = torch.eye(size, dtype=y.dtype, device=y.device).reshape(size, *shape)
        columns = self.A(unit).reshape(size, -1)  # A^T, (D, M)
        variance = self.std**2
        constant = float(log_normal(y[:1], variance))
        return Quadratic(columns @ y[0] / variance, columns @ columns.T / variance, constant)

    def decoded(self, decode: Callable[[Tensor], Tensor]) -> Likelihood:
        """The likelihood of the measurement of decoded data, A(decode(z))."""
        operator = self.A
        return Likelihood(lambda z: operator(decode(z)), self.y, self.std)

    @property
    def distance(self) -> Distance:
        """The reward -|y - A(x0)|, which published DPS ascends."""
        return Distance(self)

    __repr__ = brief_repr


@dataclass(frozen=True)
class Distance(Reward):
    """The reward -|y - A(x0)|, with one norm for each row.

    Args:
        likelihood: The measurement.
    """

    likelihood: Likelihood

    def __call__(self, x0: Tensor) -> Tensor:
        """The negative distance of data from the measurement, (B,)."""
        return -self.likelihood.residual(x0).norm(dim=1)


@dataclass(frozen=True, repr=False)
class Label(Reward):
    """Log-probability of a class, log p(y | x0); made by `label`."""

    classifier: Callable[[Tensor], Tensor]
    y: int | Tensor

    def __call__(self, x0: Tensor) -> Tensor:
        """The log-probability of the class for data, (B,)."""
        logits = self._logits(x0)
        y = torch.as_tensor(self.y, device=logits.device)
        if y.ndim and len(y) not in (1, len(x0)):
            raise ValueError(f"labels need one class, or one for each of {len(x0)} rows, got {tuple(y.shape)}")
        if bool(((y < 0) | (y >= logits.shape[1])).any()):
            raise ValueError(f"the classifier knows the classes 0 to {logits.shape[1] - 1}, and the label is {self.y}")
        return logits.log_softmax(1).gather(1, y.long().reshape(-1, 1).expand(len(x0), 1))[:, 0]

    def _logits(self, x0: Tensor) -> Tensor:
        """The logits of the classifier, (B, K)."""
        shape = getattr(self.classifier, "shape", None)
        if isinstance(shape, tuple) and tuple(x0.shape[1:]) != shape:
            raise ValueError(f"the classifier takes rows of shape {shape}, and the data have {tuple(x0.shape[1:])}")
        try:
            logits = self.classifier(x0)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"the classifier refuses data of shape {tuple(x0.shape)}: {error}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x0):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"a classifier returns logits ({len(x0)}, classes), got {got}")
        return logits

    __repr__ = brief_repr


def label(classifier: Callable[[Tensor], Tensor], y: int | Tensor) -> Label:
    """Log-probability of a class as a reward.

    Args:
        classifier: Function from data (B, ...) to logits (B, classes), such as `fm.evaluate.train_classifier(data)`.
            Its weights get no gradient.
        y: The class, a number; or one for each row, (B,).

    Returns:
        The reward log softmax(classifier(x0))[y].

    Raises:
        TypeError: The classifier is no function, or y no class.
        ValueError: The classifier is in training mode, in which batch norm would couple rows. In calls: it expects
            other sizes, or does not know the class.
    """
    if not callable(classifier) or isinstance(classifier, type):
        raise TypeError(f"a classifier is a function from data to logits, got {shown(classifier)}")
    whole = isinstance(y, Tensor) and not (y.is_floating_point() or y.is_complex()) and y.ndim <= 1
    if isinstance(y, bool) or not (isinstance(y, int) or whole):
        raise TypeError(f"a label is a class, or a tensor of whole numbers with one for each row, got {shown(y)}")
    if isinstance(classifier, nn.Module):
        kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        if any(isinstance(part, kinds) and part.training for part in classifier.modules()):
            raise ValueError("the classifier is in training mode, in which dropout and batch norm act: call .eval()")
    return Label(classifier, y)


@dataclass(frozen=True)
class Decoded(Reward):
    """Reward of decoded data; made by `decoded`."""

    decode: Callable[[Tensor], Tensor]
    reward: Rewards

    def __call__(self, x0: Tensor) -> Tensor:
        """The reward of the decoded data, (B,)."""
        return self.reward(self.decode(x0))


def decoded(decode: Callable[[Tensor], Tensor], reward: Rewards) -> Reward:
    """Reward of decoded data, such as images behind latents: r(decode(z)).

    Args:
        decode: Differentiable function from the states of the flow to data, such as the decoder of a VAE.
        reward: The reward of data.

    Returns:
        The reward; a likelihood stays one, of the nonlinear measurement A(decode(z)).

    Raises:
        TypeError: One of the two is no function.
    """
    if not callable(decode):
        raise TypeError(f"decode must be a function from states to data, got {shown(decode)}")
    expect_reward(reward)
    if isinstance(reward, Likelihood):
        return reward.decoded(decode)
    if isinstance(reward, Sum):
        return Sum(tuple(decoded(decode, part) for part in reward.parts))
    if isinstance(reward, Scaled):
        return Scaled(decoded(decode, reward.reward), reward.k)
    return Decoded(decode, reward)


@dataclass(frozen=True)
class Scaled(Reward):
    """Reward times a number; made by `scaled`."""

    reward: Rewards
    k: float

    def __post_init__(self) -> None:
        expect_reward(self.reward)
        finite(k=self.k)

    def __call__(self, x0: Tensor) -> Tensor:
        """K times the reward, (B,)."""
        return self.k * self.reward(x0)

    def widened(self, x0: Tensor, spread: Spread) -> Tensor:
        """Of a likelihood: the likelihood with std^2/k, up to a constant; of a linear reward: the one with k c."""
        inner = self.reward
        if isinstance(inner, Linear):
            return Linear(self.k * inner.c).widened(x0, spread)
        if isinstance(inner, Likelihood) and self.k > 0:
            size = inner.residual(x0).shape[1]
            variance = inner.std**2
            constant = (
                size / 2 * (math.log(2 * math.pi * variance / self.k) - self.k * math.log(2 * math.pi * variance))
            )
            return Likelihood(inner.A, inner.y, inner.std / math.sqrt(self.k)).widened(x0, spread) + constant
        return super().widened(x0, spread)

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """Both parts of the reward, times k."""
        if not isinstance(self.reward, Reward):
            return super().isotropic(x)
        linear, q = self.reward.isotropic(x)
        return self.k * linear, self.k * q

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The polynomial of the reward, times k."""
        return _quadratic(self.reward, shape).scaled(self.k)


def scaled(reward: Rewards, k: float) -> Scaled:
    """Reward times a number, k r(x0); k is an inverse temperature.

    Args:
        reward: The reward.
        k: The factor.

    Returns:
        The reward.

    Raises:
        TypeError: The reward is no function, or k no number.
        ValueError: k is not finite.
    """
    return Scaled(reward, k)


@dataclass(frozen=True)
class Sum(Reward):
    """Sum of rewards, such as `fm.rewards.label(classifier, 7) + likelihood`.

    Args:
        parts: The rewards.
    """

    parts: tuple[Rewards, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            expect_reward(part)

    def __call__(self, x0: Tensor) -> Tensor:
        """The sum of the rewards, (B,)."""
        first, *others = (rewarded(part, x0) for part in self.parts)
        return sum(others, first)

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """The sums of both parts."""
        found = [part.isotropic(x) for part in self.parts if isinstance(part, Reward)]
        if len(found) < len(self.parts):
            return super().isotropic(x)
        return torch.stack([linear.expand(x.shape) for linear, _ in found]).sum(0), sum(q for _, q in found)

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The sum of the polynomials."""
        first, *others = (_quadratic(part, shape) for part in self.parts)
        return sum(others, first)


def _quadratic(reward: Rewards, shape: torch.Size) -> Quadratic:
    """The polynomial of a reward that may be any function."""
    if not isinstance(reward, Reward):
        raise ValueError("a sum or multiple of a plain function is no quadratic reward")
    return reward.quadratic(shape)


def expect_reward(reward: Any) -> None:
    """Raise TypeError unless a value can be a reward."""
    if not callable(reward) or isinstance(reward, type):
        raise TypeError(f"a reward is a function from data x0 (B, ...) to one number for each row, got {shown(reward)}")


def rewarded(reward: Rewards, x0: Tensor) -> Tensor:
    """Evaluate a reward, and check the result.

    Args:
        reward: The reward.
        x0: Data, (B, ...).

    Returns:
        The reward of each row, (B,), at least in float32.

    Raises:
        TypeError: The reward returns no tensor of real numbers.
        ValueError: It returns another shape, or NaN or infinite values.
    """
    found = reward(x0)
    if not isinstance(found, Tensor) or found.is_complex():
        raise TypeError(f"a reward must return a tensor of real numbers, ({len(x0)},), got {shown(found)}")
    if found.shape != (len(x0),):
        advice = ": sum or average over the other axes" if found.ndim and len(found) == len(x0) else ""
        raise ValueError(
            f"a reward must return one number for each row, ({len(x0)},), got the shape {tuple(found.shape)}{advice}"
        )
    expect_finite("a reward", found)
    return found.to(torch.promote_types(found.dtype, torch.float32))
