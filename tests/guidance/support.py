"""A conditional distribution with a known guided velocity.

The classes are the components of a mixture of Gaussians in one dimension. The null class, the last one, is the mixture.
"""

import torch
from torch import nn

import flowmaps as fm
from flowmaps.path import expand

WEIGHTS, MEANS, STDS = [0.3, 0.5, 0.2], [-1.5, 0.2, 1.4], [0.25, 0.4, 0.15]
MIXTURE = fm.exact.GaussianMixture(WEIGHTS, MEANS, STDS)
CLASSES = [fm.exact.Gaussian([mean], std) for mean, std in zip(MEANS, STDS, strict=True)]
NULL = {"label": len(CLASSES)}


def of_class(question, label, *inputs):
    """Call the method `question` of each row's own distribution."""
    answers = torch.stack([getattr(one, question)(*inputs) for one in (*CLASSES, MIXTURE)])
    return answers[label, torch.arange(len(label))]


def guided(x, t, label, scale):
    """The exact guided velocity v(null) + scale (v(c) - v(null))."""
    null = MIXTURE.velocity(x, t)
    return null + expand(scale, x) * (of_class("velocity", label, x, t) - null)


class Field(nn.Module):
    """The exact guided velocity as a label-conditioned network, for the diagonal.

    scale: a function of s, or None for the condition `guidance` in its interval; `wrong` is added to it.
    """

    def __init__(self, scale=None, wrong=0.0):
        super().__init__()
        self.scale, self.wrong = scale, wrong
        self.calls = []

    def at(self, s, guidance, start, end):
        if self.scale is not None:
            return self.scale(s) + self.wrong
        start, end = (default if t is None else t for t, default in ((start, 0.0), (end, 1.0)))
        acts = ((s >= start) & (s <= end)).to(s.dtype)
        return 1 + acts * (guidance + self.wrong - 1)

    def forward(self, x, s, t, label, guidance=None, guidance_from=None, guidance_to=None):
        condition = {"label": label, "guidance": guidance, "from": guidance_from, "to": guidance_to}
        self.calls.append(condition | {"s": s, "t": t})
        return guided(x, s, label, self.at(s, guidance, guidance_from, guidance_to))


def rows(n=24, seed=0):
    """x_s, s in (0, 1), and labels of all classes."""
    g = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.randn(n, 1, generator=g, dtype=torch.float64)
    s = 0.05 + 0.9 * torch.rand(n, generator=g, dtype=torch.float64)
    return x, s, torch.arange(n) % len(CLASSES)


def mean_pair(x, s, label):
    """The mean pair (E[x_0 | x_s = x, c], E[eps | x_s = x, c]), at which a linear target takes its mean."""
    x0 = of_class("denoise", label, x, s)
    return x0, (x - (1 - s)[:, None] * x0) / s[:, None]


class Jumps(nn.Module):
    """The exact flow map of a guided velocity in closed form, as a label-conditioned network.

    The classes are Gaussians of mean zero, with velocities x g'/g and g(t)^2 = (1 - t)^2 std^2 + t^2. So the flow map
    of guidance between two times a <= b is

        F(x, s, t) = x g_c(t)/g_c(s) [h(t)/h(s)]^(scale - 1),   h(t) = (g_c/g_null)(t clamped to [a, b]).

    scale, interval: None for the guidance conditions; `wrong` is added to the scale.
    """

    def __init__(self, scale=None, interval=None, wrong=0.0):
        super().__init__()
        self.scale, self.interval, self.wrong = scale, interval, wrong
        self.stds = torch.tensor([0.3, 0.5, 1.6, 1.2], dtype=torch.float64)

    def g(self, label, t):
        return ((1 - t) ** 2 * self.stds[label] ** 2 + t**2).sqrt()

    def slope(self, label, t):
        """g'/g."""
        return (t - (1 - t) * self.stds[label] ** 2) / self.g(label, t) ** 2

    def velocity(self, label, x, t, scale):
        """The guided velocity; at scale 1 the velocity of the class."""
        null = self.slope(torch.full_like(label, 3), t)
        return x * (null + scale * (self.slope(label, t) - null))[:, None]

    def forward(self, x, s, t, label, guidance=None, guidance_from=None, guidance_to=None):
        scale = self.wrong + (guidance if self.scale is None else self.scale)
        a, b = (guidance_from, guidance_to) if self.interval is None else self.interval
        a, b = (
            torch.full_like(label, end, dtype=x.dtype) if end is None or type(end) is float else end
            for end in (0.0 if a is None else a, 1.0 if b is None else b)
        )
        null = torch.full_like(label, 3)
        if isinstance(s, torch.Tensor) and isinstance(t, torch.Tensor) and torch.equal(s, t):
            return self.velocity(label, x, s, torch.where((s >= a) & (s <= b), scale, 1.0))

        def clamped(time):
            return torch.minimum(torch.maximum(time, a), b)

        def h(time):
            return self.g(label, clamped(time)) / self.g(null, clamped(time))

        ratio = self.g(label, t) / self.g(label, s) * (h(t) / h(s)) ** (scale - 1)
        return x * ((ratio - 1) / (t - s))[:, None]


def mean_pair_of_jumps(jumps, x, s, label):
    """The mean pair for the Gaussians of `Jumps`."""
    v = jumps.velocity(label, x, s, torch.ones_like(s))
    return x - s[:, None] * v, x + (1 - s)[:, None] * v
