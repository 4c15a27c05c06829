"""Manifolds of geoopt, behind a check of their derivatives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from ..arguments import at_least, install, positive, shown
from ..forward_mode import Dual
from .base import Manifold, dot

GAPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Lengths of the tangent vectors at which `exp` and `log` are checked."""
FAR = 6.0
"""Largest length at which they are checked to be inverse."""
INSTEAD = "fm.manifolds.Sphere(n), Torus(n), SO3(), Hyperbolic(n) and their Product have the right derivatives"


@dataclass(frozen=True, eq=False)
class GeooptManifold(Manifold):
    """A manifold of geoopt as a manifold of this library; made by `from_geoopt`.

    Attributes:
        manifold: The geoopt manifold.
        frame: Orthonormal tangent vectors at its origin, (dim, size), float64.
        radius: Length up to which `log` inverts `exp`.
        wrong: Fault of the derivative of `log`, in words; "" if it is right.
    """

    manifold: Any
    frame: Tensor
    radius: float
    wrong: str = ""

    def __repr__(self) -> str:
        return f"from_geoopt({self.manifold}, size={self.size})"

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.frame.shape[1]

    @property
    def dim(self) -> int:
        """Number of independent tangent vectors."""
        return self.frame.shape[0]

    @property
    def reach(self) -> float:
        """The given radius."""
        return self.radius

    @property
    def isometric(self) -> bool:
        """Whether lengths at two points are norms of coordinates; only these constant products are recognised."""
        x = self.noise(torch.stack([torch.zeros(self.size), torch.ones(self.size)]).double())
        u = self.tangent(x, torch.arange(1.0, self.size + 1).expand_as(x).to(x))
        return torch.allclose(self.scale(x, u), u)

    def _by(self, name: str, *rows: Tensor) -> Tensor:
        operation = _operation(self.manifold, name)
        return handle_torch_function(operation, rows, *rows) if has_torch_function(rows) else operation(*rows)

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Values of geoopt; x + u at u = 0, where some of its reverse derivatives are NaN."""
        still = (u == 0).all(-1, keepdim=True)
        return torch.where(still, x + u, self._by("expmap", x, torch.where(still, torch.ones_like(u), u)))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Values of geoopt. Raises NotImplementedError for a derivative that is wrong near x = y."""
        if not self.wrong:
            return self._by("logmap", x, y)
        if isinstance(x, Dual) or isinstance(y, Dual):
            _refuse(self.wrong)
        return _Value.apply(self._by("logmap", x.detach(), y.detach()), x, y, self.wrong)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Projection by geoopt."""
        return self._by("proju", x, u)

    def point(self, x: Tensor) -> Tensor:
        """Projection by geoopt."""
        return self._by("projx", x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Length of `log`."""
        return self.scale(x, self.log(x, y)).norm(dim=-1)

    def scale(self, x: Tensor, u: Tensor) -> Tensor:
        """Vector u times the ratio of its length to its norm in coordinates."""
        still = (u == 0).all(-1, keepdim=True)
        safe = torch.where(still, self.tangent(x, torch.ones_like(u)), u)
        squared, ambient = self._by("inner", x, safe, safe), dot(safe, safe)
        tiny = torch.finfo(u.dtype).tiny
        return u * torch.where(still, 1, (squared.clamp(min=tiny) / ambient.clamp(min=tiny)).sqrt())

    def origin(self, x: Tensor) -> Tensor:
        """Origin of geoopt, in the dtype and on the device of x; (size,)."""
        return self.manifold.origin(self.size, dtype=torch.float64).to(x)

    def noise(self, normal: Tensor) -> Tensor:
        """Wrapped normal law at the origin, exp_o of the first `dim` normal numbers in an orthonormal frame."""
        w = normal[..., : self.dim] @ self.frame.to(normal)
        return self.exp(self.origin(normal).expand_as(w), w)

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of the wrapped normal law, log N(w; 0, I) - log |det d exp_o(w)|, x = exp_o(w).

        Raises:
            NotImplementedError: The radius is finite, so that several w have the same point.
        """
        if self.radius < math.inf:
            raise NotImplementedError(f"the prior of {self} has no closed density: exp is invertible up to its radius")
        o, frame = self.origin(x).expand_as(x), self.frame.to(x)
        w = self._by("logmap", o, x)
        columns = [torch.func.jvp(lambda u: self.exp(o, u), (w,), (e.expand_as(w),))[1] for e in frame]
        units = torch.cat([self._by("inner", o, w, e.expand_as(w)) for e in frame], -1)
        gram = torch.stack([torch.cat([self._by("inner", x, a, b) for b in columns], -1) for a in columns], -1)
        normal = -units.square().sum(-1) / 2 - self.dim / 2 * math.log(2 * math.pi)
        return normal - torch.linalg.slogdet(gram).logabsdet / 2


class _Value(torch.autograd.Function):
    """Values that refuse every derivative."""

    @staticmethod
    def forward(value: Tensor, x: Tensor, y: Tensor, reason: str) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.reason = inputs[3]

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        _refuse(ctx.reason)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> NoReturn:
        _refuse(ctx.reason)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], value: Tensor, x: Tensor, y: Tensor, reason: str) -> tuple[Tensor, Any]:
        return _Value.apply(value, x, y, reason), dims[0]


@functools.cache
def _operation(manifold: Any, name: str) -> Callable[..., Tensor]:
    """An operation of geoopt, which dual numbers differentiate as one operation, because parts of it are scripted."""
    method = functools.partial(getattr(manifold, name), **({"keepdim": True} if name == "inner" else {}))

    def operation(*rows: Tensor) -> Tensor:
        return method(*rows)

    operation.__name__ = f"geoopt_{name}"  # no rule of the forward mode has this name
    return operation


def _refuse(reason: str) -> NoReturn:
    raise NotImplementedError(f"{reason}, so it is refused: {INSTEAD}")


def from_geoopt(manifold: Any, size: int, *, radius: float = math.inf) -> GeooptManifold:
    """Take a manifold of geoopt, whose operations act on the last axis of points (..., size).

    At random points near its origin, `exp` and `log` are checked to be inverse to each other, and their derivatives
    are compared with the identity, which they approach at short distances. A manifold with wrong values is refused. If
    the derivative of `log` alone is wrong, `log` has values and refuses to be differentiated.

    Args:
        manifold: A geoopt manifold, such as `geoopt.PoincareBall()`.
        size: Number of coordinates of a point.
        radius: Length up to which `log` inverts `exp`; infinite for manifolds without a cut locus.

    Returns:
        The manifold. Its prior is the wrapped normal law at its origin. No run folder can store it.

    Raises:
        ImportError: geoopt is not installed.
        TypeError: It is no geoopt manifold, or its points have another number of axes than one.
        ValueError: The size or the radius is out of range, or values or derivatives of `exp` or `log` are wrong.
    """
    try:
        import geoopt
    except ImportError:
        raise ImportError(f"manifolds.from_geoopt needs geoopt: {install('manifolds')}") from None
    if not isinstance(manifold, geoopt.Manifold):
        raise TypeError(f"expected a manifold of geoopt, such as geoopt.PoincareBall(), got {shown(manifold)}")
    if manifold.ndim != 1:
        raise TypeError(f"points of {manifold} have {manifold.ndim} axes; one is supported, the last, such as ndim=1")
    at_least(1, size=size)
    if radius != math.inf:
        positive(radius=radius)
    made = GeooptManifold(manifold, _frame(manifold, size), radius)
    wrong = [_check(made, dtype) for dtype in (torch.float64, torch.float32)]
    return GeooptManifold(manifold, made.frame, radius, next(filter(None, wrong), ""))


def _frame(manifold: Any, size: int) -> Tensor:
    """Tangent vectors at the origin that are orthonormal in the metric, (dim, size)."""
    o = manifold.origin(size, dtype=torch.float64).expand(size, size)
    units = manifold.proju(o, torch.eye(size, dtype=torch.float64))
    gram = torch.cat([manifold.inner(o, u.expand_as(o), units, keepdim=True) for u in units], -1)
    squares, axes = torch.linalg.eigh(gram)
    kept = squares > 1e-9 * squares.max()
    return (axes[:, kept] / squares[kept].sqrt()).T @ units


def _check(made: GeooptManifold, dtype: torch.dtype) -> str:
    """Check values and derivatives at random points.

    Args:
        made: The manifold.
        dtype: Precision of the check.

    Returns:
        The fault of the derivative of `log`, in words; "" if it is right.

    Raises:
        ValueError: `log` does not invert `exp`, or the derivative of `exp` at 0 is wrong.
    """
    numbers = torch.randn(3, 32, made.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    x = made.noise(0.3 * numbers[0])
    u, v = (w / made.scale(x, w).norm(dim=-1, keepdim=True) for w in made.tangent(x, numbers[1:]))
    name, eps = f"{type(made.manifold).__name__} of geoopt in {dtype}".replace("torch.", ""), torch.finfo(dtype).eps

    def off(found: Tensor, true: Tensor) -> float:
        return float(torch.nan_to_num((found - true).norm(dim=-1), nan=math.inf).max())

    moved = torch.func.jvp(lambda w: made.manifold.expmap(x, w), (torch.zeros_like(u),), (v,))[1]
    if off(moved, v) > 1e-2:
        raise ValueError(f"the derivative of exp at 0 of {name} is wrong by {off(moved, v):.1g}: {INSTEAD}")
    far = min(FAR, 0.9 * made.radius) if dtype == torch.float64 else min(1.0, 0.9 * made.radius)
    for gap in (far, *GAPS):
        error = off(made.log(x, made.exp(x, gap * u)) / gap, u)
        if error > 1e-2 + 100 * eps / gap:
            raise ValueError(
                f"log(x, exp(x, u)) of {name} is wrong by {error:.1g} |u| at |u| = {gap:g}"
                + (": give the distance of the cut locus as radius=" if gap == far else f": {INSTEAD}")
            )
    for gap in (*GAPS, 0.0):
        there = made.manifold.expmap(x, gap * u) if gap else x
        w = made.tangent(there, v)
        found = torch.func.jvp(lambda y: made.manifold.logmap(x, y), (there,), (w,))[1]
        allowed = 1e-2 + gap + (100 * eps / gap if gap else 0)
        if off(found, w) > allowed * float(w.norm(dim=-1).max()):
            return f"the derivative of log of {name} at a distance of {gap:g} is wrong by {off(found, w):.1g}"
    return ""
