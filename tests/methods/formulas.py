"""The formulas of the papers on one batch, apart from the library: torch.func.jvp, detach, and nothing else.

Times as here (0 data, 1 noise), residuals in units of velocity or of position as in each paper, squares averaged over
rows and coordinates, no other weight. Where the library has a constant factor of its own, it stands in the formula.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tests.methods.support import STEP


@dataclass(frozen=True)
class Problem:
    """One batch, with its networks as functions (y, a, b): V the flow, W the teacher, A the averaged flow, B the
    auxiliary network; w(a, b) the learned log-variance. s and t are columns, g and n a uniform and a normal draw."""

    V: Callable
    W: Callable
    A: Callable
    B: Callable
    w: Callable
    x0: torch.Tensor
    eps: torch.Tensor
    s: torch.Tensor
    t: torch.Tensor
    g: torch.Tensor
    n: torch.Tensor

    @property
    def x(self):
        return self.pair(self.s)

    @property
    def u(self):
        return self.eps - self.x0

    @property
    def V_st(self):
        return self.V(self.x, self.s, self.t)

    @property
    def v(self):
        """The teacher's velocity at x_s."""
        return sg(self.W(self.x, self.s, self.s))

    def pair(self, m):
        """x_m of the same data and noise."""
        return (1 - m) * self.x0 + m * self.eps


def sg(value):
    return value.detach()


def jvp(f, primals, tangents):
    """Value and derivative of f(x, s, t), on the graph."""
    full = tuple(torch.as_tensor(d, dtype=p.dtype).expand_as(p) for p, d in zip(primals, tangents, strict=True))
    return torch.func.jvp(f, primals, full)


def mean_square(residual):
    return (residual**2).mean()


def jump(V):
    return lambda y, a, b: y + (b - a) * V(y, a, b)


def diagonal(V):
    return lambda y, r: V(y, r, r)


def diffusion(p, v, measure=mean_square):
    return measure(p.V(p.x, p.s, p.s) - v)


def lagrangian(p, v, keep_slope, keep_target):
    value, slope = jvp(p.V, (p.x, p.s, p.t), (0.0, 0.0, 1.0))
    end = p.x + (p.t - p.s) * value
    target = v(end, p.t) if keep_target else sg(v(sg(end), p.t))
    return mean_square(value + (p.t - p.s) * (slope if keep_slope else sg(slope)) - target)


def eulerian(p, v, along, keep_time=False, keep_space=False, ramp=1.0, measure=mean_square):
    """ramp: a factor on the slope."""
    v, along = sg(v), sg(along)
    value, in_time = jvp(p.V, (p.x, p.s, p.t), (0.0, 1.0, 0.0))
    _, in_space = jvp(p.V, (p.x, p.s, p.t), (along, 0.0, 0.0))
    slope = (in_time if keep_time else sg(in_time)) + (in_space if keep_space else sg(in_space))
    return measure(value - v - (p.t - p.s) * ramp * slope)


def compositional(p, V, g):
    m = g * p.s + (1 - g) * p.t
    first = V(p.x, p.s, m)
    second = V(p.x + (m - p.s) * first, m, p.t)
    return mean_square(p.V_st - sg((1 - g) * first + g * second))


def meanflow(p, measure=mean_square):
    return eulerian(p, p.u, p.u, measure=measure)


def improved_meanflow(p, measure=mean_square):
    return eulerian(p, p.u, p.V(p.x, p.s, p.s), measure=measure)


def forward_difference(p, h):
    """(V(x, s, t + h) - V(x, s, t)) / h."""
    return (p.V(p.x, p.s, p.t + h) - p.V_st) / h


def pid(p, h=0.005):
    end = sg(jump(p.V)(p.x, p.s, p.t))
    return mean_square(p.V_st + (p.t - 1) * forward_difference(p, h) - sg(p.W(end, p.t, p.t)))


def pid_between_denoised_fields(p, h=0.005):
    """|(F - t dF/dt) - sg[F - t v(F, t)]|: the paper's residual, absolute values for a distance."""
    F = jump(p.V)(p.x, p.s, p.t)
    dF = p.V_st + (p.t - 1) * forward_difference(p, h)
    return (F - p.t * dF - sg(F - p.t * p.W(F, p.t, p.t))).abs().mean()


def freeflow(p, h=0.005):
    """The square of the correction's residual D_N stands for 2 <V(eps, 1, 0), D_N>."""
    prediction = p.V_st - sg(p.W(jump(p.V)(p.x, p.s, p.t), p.t, p.t) - (p.t - 1) * forward_difference(p, h))
    V = p.V(p.eps, p.s, 0 * p.t)
    sample = sg(p.eps - V)
    x_r = (1 - p.t) * sample + p.t * p.n
    w = p.B(x_r, p.t, p.t)
    D_N = sg(w - p.W(x_r, p.t, p.t))
    balance = sg(prediction).norm(dim=1).mean() / (D_N.norm(dim=1).mean() + 1e-6)
    correction = 2 * ((V - sg(V)) * D_N).mean() + mean_square(D_N)
    auxiliary = mean_square(w - (p.n - sample))
    return 0.75 * mean_square(prediction) + 0.25 * (balance * correction + auxiliary)


def boot(p, step=0.04):
    """x_t by an Euler step from x_m = F(eps, 1, m), and the average velocity that ends there."""
    m = (p.t + step).clamp(max=1)
    x_m = sg(jump(p.V)(p.eps, p.s, m))
    x_t = x_m + (p.t - m) * sg(p.W(x_m, m, m))
    return mean_square(p.V_st - (p.eps - x_t) / (1 - p.t))


def noise_level(s):
    return s / (1 - s)


def edm_grid(intervals):
    """(0.002^(1/7) + i/n (80^(1/7) - 0.002^(1/7)))^7 as times sigma/(1 + sigma), its ends moved to 0 and 1."""
    ends = 0.002 ** (1 / 7), 80 ** (1 / 7)
    levels = [(ends[0] + i / intervals * (ends[1] - ends[0])) ** 7 for i in range(1, intervals)]
    return [0.0, *(level / (1 + level) for level in levels), 1.0]


def even_grid(intervals):
    return [i / intervals for i in range(intervals + 1)]


def below(p, grid):
    """The point of the grid below s, or t where that is nearer."""
    points = [max(point for point in grid if point < s - 1e-9) for s in p.s.flatten().tolist()]
    return torch.maximum(torch.tensor(points, dtype=p.s.dtype)[:, None], p.t)


def consistency(p, m, x_m, target, measure=mean_square):
    return measure(jump(p.V)(p.x, p.s, p.t) - sg(jump(target)(x_m, m, p.t)))


def consistency_training(p, m, target, measure=mean_square):
    return consistency(p, m, p.pair(m), target, measure)


def by_noise(p, m, distance=lambda residual: residual**2):
    """distance/(sigma_s - sigma_m), averaged: iCT's and ECT's measure."""
    return lambda residual: (distance(residual) / (noise_level(p.s) - noise_level(m))).mean()


def euler(W, y, a, b):
    return y + (b - a) * W(y, a, a)


def heun(W, y, a, b):
    first = W(y, a, a)
    return y + (b - a) * (first + W(y + (b - a) * first, b, b)) / 2


def consistency_distillation(p, grid, solver=euler, measure=mean_square):
    m = below(p, grid)
    return consistency(p, m, sg(solver(p.W, p.x, p.s, m)), p.A, measure)


def ict(p, intervals, distance=lambda residual: residual**2):
    m = below(p, edm_grid(intervals))
    return consistency_training(p, m, p.V, by_noise(p, m, distance))


def ect(p, stage, distance=lambda residual: residual**2):
    m = ect_time(p.s, stage)
    return consistency_training(p, m, p.V, by_noise(p, m, distance))


def ect_time(s, stage):
    """sigma max(0, 1 - (1 + 8 sigmoid(-sigma))/2^(stage + 1)) as a time."""
    sigma = noise_level(s)
    level = (sigma * (1 - (1 + 8 / (1 + torch.exp(sigma))) / 2 ** (stage + 1))).clamp(min=0)
    return level / (1 + level)


def ctm(p, grid, solver=euler):
    m, data = below(p, grid), torch.zeros_like(p.t)
    there = sg(jump(p.V)(solver(p.W, p.x, p.s, m), m, p.t))
    ends = [jump(p.A)(y, p.t, data) for y in (jump(p.V)(p.x, p.s, p.t), there)]
    return mean_square(ends[0] - sg(ends[1]))


def soflow(p, r, measure=mean_square):
    """r |D|^2, D = (F(x_s, s, t) - sg[F(x_m, m, t)])/(s - m)."""
    m = p.s + r * (p.t - p.s)
    x_m = p.x + (m - p.s) * p.u
    return r * measure((jump(p.V)(p.x, p.s, p.t) - sg(jump(p.V)(x_m, m, p.t))) / (p.s - m))


def alphaflow(p, a, measure=mean_square):
    """|D|^2/a,  D = V - sg[a u + (1 - a) V(x_m, m, t)]."""
    m = p.s + a * (p.t - p.s)
    target = a * p.u + (1 - a) * p.V(p.x + (m - p.s) * p.u, m, p.t)
    return measure(p.V_st - sg(target)) / a


def facm_residual(p, bound=1.0):
    """V_theta - target,  target = V - alpha clamp(V - (v - s dV)),  at t = 0."""
    value, slope = jvp(p.V, (p.x, p.s, p.t), (p.v, 1.0, 0.0))
    g = sg(value) - (p.v - p.s * sg(slope))
    return value - (sg(value) - (1 - (1 - p.s).sqrt()) * g.clamp(-bound, bound))


def facm_anchor(p):
    V = p.V(p.x, p.s, p.s)
    return mean_square(V - p.v) + (1 - torch.cosine_similarity(V, p.v, dim=1)).mean()


def scm_parts(p, along, c=0.0, r=1.0):
    """tau, and N - sg[N + g]: sCM's formula, sigma_d = 1, for V the network N itself and states on the trigonometric
    path; along = dx/dtau."""
    tau = math.pi / 2 * p.s
    x = torch.cos(tau) * p.x0 + torch.sin(tau) * p.eps
    dx = sg(along(p, tau, x))
    N, dN = jvp(p.V, (x, p.s, p.t), (dx, 2 / math.pi, 0.0))
    g = sg(-(torch.cos(tau) ** 2) * (N - dx) - r * torch.cos(tau) * torch.sin(tau) * (x + dN))
    if c:
        g = g / (g.norm(dim=1, keepdim=True) + c)
    return tau, N - sg(N) - g


def along_the_pair(p, tau, x):
    return torch.cos(tau) * p.eps - torch.sin(tau) * p.x0


def along_the_teacher(p, tau, x):
    return 2 / math.pi * p.W(x, p.s, p.s)


def scm(p, along, **options):
    tau, residual = scm_parts(p, along, **options)
    return (residual**2 / torch.tan(tau)).mean()


def there_and_back(p):
    z = jump(p.V)(p.x, p.s, p.t)
    value, slope = jvp(p.V, (z, p.t, p.s), (0.0, 0.0, 1.0))
    velocity, back = value + (p.s - p.t) * slope, z + (p.s - p.t) * value
    return (mean_square(velocity - p.u) + mean_square(back - p.x)) / 2


def mid_training(p, points):
    """Every n-th row shares the noise of the first, n the least number of groups of `points` rows."""
    first = torch.arange(len(p.eps)) % -(-len(p.eps) // points)
    y = [p.eps[first]]
    for k in range(points, 0, -1):
        y.append(euler(p.W, y[-1], torch.full_like(p.s, k / points), (k - 1) / points))
    here, there = (
        torch.stack([y[points - round(points * a)][row] for row, a in enumerate(r.flatten().tolist())])
        for r in (p.s, p.t)
    )
    return mean_square(p.V(sg(here), p.s, p.t) - sg((here - there) / (p.s - p.t)))


def shares(diagonal_share, first, second):
    return diagonal_share * first + (1 - diagonal_share) * second


REFERENCES = {
    "flow_matching": lambda p: diffusion(p, p.u),
    "lmd": lambda p: lagrangian(p, diagonal(p.W), True, True),
    "lsd": lambda p: shares(0.75, diffusion(p, p.u), lagrangian(p, diagonal(p.V), True, False)),
    "ayf_lmd": lambda p: lagrangian(p, diagonal(p.W), False, False),
    "tvm": lambda p: shares(0.5, diffusion(p, p.u), lagrangian(p, diagonal(p.A), True, False)),
    "freeflow": freeflow,
    "pid": pid,
    "boot": boot,
    "ct": lambda p: consistency_training(p, below(p, edm_grid(1)), p.A),
    "cd": lambda p: consistency_distillation(p, edm_grid(17)),
    "ctm": lambda p: ctm(p, edm_grid(17)),
    "emd": lambda p: eulerian(p, p.v, p.v, True, True),
    "esd": lambda p: shares(
        0.75, diffusion(p, p.u), eulerian(p, p.V(p.x, p.s, p.s), p.V(p.x, p.s, p.s), keep_time=True)
    ),
    "ayf_emd": lambda p: eulerian(p, p.v, p.v),
    "soflow": lambda p: shares(0.75, diffusion(p, p.u), soflow(p, STEP)),
    "facm": lambda p: mean_square(facm_residual(p)) + facm_anchor(p),
    "meanflow": lambda p: shares(0.75, diffusion(p, p.u), meanflow(p)),
    "imf": lambda p: shares(0.5, diffusion(p, p.u), improved_meanflow(p)),
    "alphaflow": lambda p: shares(0.25, diffusion(p, p.u), alphaflow(p, STEP)),
    "dmf": lambda p: shares(0.5, diffusion(p, p.u), meanflow(p)),
    "rectified_meanflow": lambda p: shares(0.75, diffusion(p, p.u), meanflow(p)),
    "pixel_meanflow": lambda p: shares(0.5, diffusion(p, p.u), improved_meanflow(p)),
    "ict": lambda p: ict(p, 10),
    "ect": lambda p: ect(p, 0),
    "sct": lambda p: scm(p, along_the_pair),
    "scd": lambda p: scm(p, along_the_teacher),
    "lcm": lambda p: consistency_distillation(p, even_grid(50)),
    "cmt": lambda p: mid_training(p, 16),
    "shortcut": lambda p: shares(0.75, diffusion(p, p.u), compositional(p, p.A, 0.5)),
    "splitmeanflow": lambda p: shares(0.5, diffusion(p, p.v), compositional(p, p.V, p.g)),
    "psd": lambda p: shares(0.75, diffusion(p, p.u), compositional(p, p.V, p.g)),
    "fmm": there_and_back,
    "pfmm": lambda p: compositional(p, p.W, 0.5),
    "progressive_distillation": lambda p: compositional(p, lambda y, a, b: p.W(y, a, a), 0.5),
}
