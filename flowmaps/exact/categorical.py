"""Joint laws of a few discrete variables, as one-hot rows: the truth for maps of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import links
from .. import path as paths
from ..arguments import at_least, expect_tensor, shown
from ..path import Path, Time, linear
from ..path.time_shapes import at_time
from .base import Exact, Numbers, beside, check_path, check_state, floating, wide
from .solve import solve

LARGEST = 2**16
"""Largest number of entries of a table, which every evaluation sums over for each row."""
EARLIEST = 1e-3
"""Time from which the ODE is solved: below it the posterior is one-hot, and the jump is exact for constant data."""
TINY = 1e-30
"""Least probability whose logarithm is taken."""


class Categorical(Exact):
    """A law of L positions with K values each, given by its table. Rows are one-hot, (L, K).

    The posterior of the table's entries e given x_t is a softmax of log p(e) + alpha <x_t, e>/sigma^2, and the denoiser
    holds the posterior probabilities of each position. The flow map is solved numerically to a tolerance.

    Args:
        table: Probabilities of all K^L words, (K, ..., K) with L dimensions, not negative, with sum 1.
        path: The path from data to noise.

    Attributes:
        table: The table, normalised.
        entropy: Entropy of a row in nats.
        link: `fm.links.softmax`. `value` gives its logits, so that the law stands in for a flow map of tokens.

    Raises:
        TypeError: The table holds no numbers.
        ValueError: The dimensions differ, a probability is negative, their sum is not 1, or there are more than 65,536.
    """

    link = staticmethod(links.softmax)

    def __init__(self, table: Numbers, *, path: Path = linear) -> None:
        check_path(path)
        self.path = path
        found = floating(table, "a table")
        if found.ndim == 0 or len(set(found.shape)) != 1 or found.shape[0] < 2:
            raise ValueError(
                f"a table of L positions with K >= 2 values each has L dimensions of size K, got {tuple(found.shape)}; "
                "Categorical.independent(probabilities) takes (L, K)"
            )
        if found.numel() > LARGEST:
            raise ValueError(
                f"a table of {found.ndim} positions with {found.shape[0]} values has {found.numel()} entries, more "
                f"than the {LARGEST} that exact sums go over: take fewer positions or values"
            )
        if bool((found < 0).any()) or abs(float(found.sum()) - 1) > 1e-5:
            raise ValueError(f"the probabilities of a table must not be negative, with sum 1, got {shown(table)}")
        self.table = found / found.sum()
        self.shape = torch.Size([found.ndim, found.shape[0]])
        self.entropy = float(-torch.special.xlogy(self.table, self.table).sum())

    @classmethod
    def independent(cls, probabilities: Numbers, *, path: Path = linear) -> Categorical:
        """Make the law of independent positions.

        Args:
            probabilities: Probabilities of each position, (L, K).
            path: The path from data to noise.

        Returns:
            The law.

        Raises:
            ValueError: The probabilities are no matrix, or make no table.
        """
        rows = floating(probabilities, "probabilities")
        if rows.ndim != 2 or rows.shape[1] ** len(rows) > LARGEST:
            raise ValueError(f"expected probabilities (L, K) with K^L <= {LARGEST}, got {tuple(rows.shape)}")
        table = torch.ones((), dtype=rows.dtype)
        for row in rows:
            table = table[..., None] * row
        return cls(table, path=path)

    def marginals(self) -> Tensor:
        """Probabilities of each position, (L, K)."""
        return self._marginals(self.table[None])[0]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n independent one-hot rows, (n, L, K); see `Exact.sample`."""
        return self.one_hot(self.sample_tokens(n, generator))

    def sample_tokens(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw the tokens of n independent rows.

        Args:
            n: Number of rows.
            generator: Source of random numbers. None: torch's global one.

        Returns:
            Whole numbers, (n, L).
        """
        at_least(0, n=n)
        words = torch.multinomial(self.table.flatten(), max(n, 1), replacement=True, generator=generator)[:n]
        return torch.stack(torch.unravel_index(words, self.table.shape), 1)

    def one_hot(self, tokens: Tensor) -> Tensor:
        """One-hot rows (B, L, K) of tokens (B, L), in the dtype of the table."""
        return torch.nn.functional.one_hot(tokens, self.shape[1]).to(self.table.dtype)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Compute E[x_0 | x_t = x], the posterior probabilities of each position; see `Exact.denoise`."""
        return self._marginals(self._words(self.log_joint(x, at_time(t, x)).softmax(1))).to(x.dtype)

    def log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute log p(word) + alpha <x, word>/sigma^2, the log posterior of each word up to a constant, (B, K^L)."""
        check_state(self, x)
        rows, positions = wide(x), self.shape[0]
        # far below EARLIEST only the nearest word counts
        scale = (self.path.alpha(t) / self.path.sigma(t).square().clamp(min=1e-10)).reshape(-1, 1, 1)
        found = beside(self.table, x).log()[None]
        for position, column in enumerate((rows * scale).unbind(1)):
            found = found + column.reshape(-1, *[1] * position, self.shape[1], *[1] * (positions - 1 - position))
        return found.flatten(1)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute v(x, t) from the denoiser; see `Exact.velocity`. Times below 1e-6 count as 1e-6."""
        t = at_time(t, x).clamp(min=1e-6)
        return self.path.convert(self.denoise(x, t), x, t, paths.data, paths.velocity)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Compute -(x - alpha f)/sigma^2; see `Exact.score`. Times below 1e-6 count as 1e-6."""
        t = at_time(t, x).clamp(min=1e-6)
        return self.path.convert(self.denoise(x, t), x, t, paths.data, paths.score)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute the log density of x_t in nats, (B,); at t = 0 the log probability of the word of a one-hot x.

        Args:
            x: States (B, L, K). At t = 0 only the largest entry of each position counts.
            t: Time, one for each row or one for all.

        Returns:
            Nats, (B,).
        """
        t = at_time(t, x)
        later = t.clamp(min=1e-6)
        alpha, sigma = (one(later).reshape(-1) for one in (self.path.alpha, self.path.sigma))
        square = wide(x).square().flatten(1).sum(1) + alpha**2 * self.shape[0]
        volume = self.shape.numel() * (2 * math.pi * sigma**2).log()
        density = self.log_joint(x, later).logsumexp(1) - 0.5 * (square / sigma**2 + volume)
        return torch.where(t.reshape(-1) == 0, self.log_prob_of(x.argmax(-1)).to(density), density).to(x.dtype)

    def log_prob_of(self, tokens: Tensor) -> Tensor:
        """Compute the log probability of words.

        Args:
            tokens: Whole numbers below K, (B, L).

        Returns:
            Nats, (B,).

        Raises:
            ValueError: A token is out of range, or the shape is another one.
        """
        expect_tensor("tokens", tokens)
        length, values = self.shape
        if tokens.ndim != 2 or tokens.shape[1] != length or tokens.is_floating_point():
            raise ValueError(
                f"expected whole numbers (B, {length}) as tokens, got {tokens.dtype} {tuple(tokens.shape)}"
            )
        if bool(((tokens < 0) | (tokens >= values)).any()):
            raise ValueError(f"tokens must lie in 0, ..., {values - 1}")
        return self.table.to(tokens.device).log()[tokens.unbind(1)]

    def flow_map(self, x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-8) -> Tensor:
        """Compute F(x, s, t) by `solve`, in float64, and by an exact jump below t = 0.001.

        Args:
            x: States (B, L, K) at time s. A source time below 0.001 counts as 0.001.
            s: Source time.
            t: Target time.
            tolerance: Absolute error, in x's units.

        Returns:
            States (B, L, K) at time t, in x's dtype.
        """
        y = x.double()
        s, t = at_time(s, y), at_time(t, y)
        early = t.clamp(min=EARLIEST)
        y = solve(self.velocity, y, s.clamp(min=EARLIEST), early, tolerance=tolerance)
        return torch.where(t < EARLIEST, self.path.jump(self.denoise(y, early), y, early, t), y).to(x.dtype)

    def field(self, x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-8) -> Tensor:
        """Compute the denoised field D(x, s, t): F is its exact step, and D is a mean of the denoiser along the path.

        Args:
            x: States (B, L, K) at time s.
            s: Source time.
            t: Target time.
            tolerance: Absolute error of F.

        Returns:
            Probabilities of each position, (B, L, K); the denoiser where s = t.
        """
        y = x.double()
        s, t = at_time(s, y), at_time(t, y)
        same = s == t
        if bool(same.all()):
            return self.denoise(x, s)
        gap = torch.where(same, torch.ones_like(t), t - s)
        V = (self.flow_map(y, s, t, tolerance=tolerance) - y) / gap
        return torch.where(same, self.denoise(y, s), self.path.field(V, y, s, t)).to(x.dtype)

    def value(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute the logits log D(x, s, t) of the field, (B, L, K)."""
        return self.field(x, s, t).clamp(min=TINY).log()

    def _words(self, rows: Tensor) -> Tensor:
        """Rows (B, K^L) as tables (B, K, ..., K)."""
        return rows.reshape(-1, *self.table.shape)

    def _marginals(self, tables: Tensor) -> Tensor:
        """Sums of tables (B, K, ..., K) for each value of each position, (B, L, K)."""
        length = self.shape[0]
        others = [[1 + other for other in range(length) if other != position] for position in range(length)]
        return torch.stack([tables.sum(axes) if axes else tables for axes in others], 1)

    def __repr__(self) -> str:
        return f"Categorical(positions={self.shape[0]}, values={self.shape[1]}, path={self.path})"
