"""Fourier transforms, running products, inverses and the like for the fuzz of forward mode (see `cases`)."""

import torch
import torch.nn.functional as F

TRANSFORM_CASES = {}


def case(function):
    TRANSFORM_CASES[function.__name__] = function
    return function


@case
def fourier(r):
    def program(x):
        fft = torch.fft
        waves = fft.fft(x) + fft.ifft(x) + fft.fft2(x) + fft.ifft2(x) + fft.fftn(x) + fft.ifftn(x)
        half = fft.rfft(x) + fft.rfft2(x) + fft.rfftn(x) + fft.ihfft(x).conj()
        back = fft.irfft(half, n=4) + fft.irfft2(half, s=(3, 4)) + fft.irfftn(half, s=(3, 4)) + fft.hfft(half, n=4)
        return waves, half, back, fft.fftshift(x) * fft.ifftshift(x), waves.abs()

    return program, [r(3, 4)]


@case
def short_fourier(r):
    window = torch.hann_window(8, dtype=torch.float64) + 0.1

    def program(x):
        w = window.to(x.dtype)
        waves = torch.stft(x, 8, 2, window=w, return_complex=True)
        return waves, torch.istft(waves * waves.abs(), 8, 2, window=w)

    return program, [r(2, 24)]


@case
def running(r):
    x = r.any()
    dim = r.dim(x)
    return (lambda x: (x.cumprod(dim), torch.logcumsumexp(x, dim=dim))), [x]


@case
def running_with_zeros(r):
    return (lambda x: torch.cat([x, 0 * x, x]).cumprod(0)), [r.any()]


@case
def inverses(r):
    def program(a, b):
        a = a + 4 * torch.eye(3, dtype=a.dtype)
        return a.inverse(), torch.linalg.inv(a), torch.linalg.multi_dot([a, a, b])

    return program, [r(3, 3), r(3, 2)]


@case
def solutions(r):
    return (lambda a, b: torch.linalg.solve(a + 4 * torch.eye(3, dtype=a.dtype), b)), [r(3, 3), r(3, 2)]


@case
def scatter_reduce(r):
    index = r.index(4, 2, 3)
    return (
        lambda x, y: (
            x.scatter_reduce(0, index, y, "sum"),
            torch.scatter_reduce(x, 0, index, y, reduce="mean", include_self=False),
        )
    ), [r(4, 3), r(2, 3)]


@case
def sampled_images(r):
    points = torch.rand(2, 3, 3, 2, dtype=torch.float64, generator=r.generator) * 2 - 1

    def sample(x):
        return F.grid_sample(x, points.to(x.dtype), align_corners=False)

    def weighted(x):
        bases = torch.eye(20, dtype=x.dtype).view(20, 1, 4, 5)
        weights = torch.stack([sample(basis.expand(2, 1, 4, 5)) for basis in bases])
        return torch.einsum("pnouv,ncp->ncuv", weights, x.flatten(2))

    return sample, [r(2, 3, 4, 5)], weighted


@case
def weight_norm(r):
    def written(v, g):
        return v * (g / v.square().sum((1, 2), keepdim=True).sqrt()), v * (g[:2] / v.square().sum().sqrt()).mean()

    def program(v, g):
        return torch._weight_norm(v, g, 0), v * (g[:2] / v.norm()).mean()

    return program, [r(4, 3, 2), r(4, 1, 1)], written


@case
def sorted_rows(r):
    return (lambda x: torch.msort(x) * x.H.sum()), [r(4, 3)]


@case
def special_names(r):
    def program(x):
        s = torch.special
        inside, positive = 0.8 * torch.tanh(x), x.abs()
        return (
            s.sinc(x) + s.exp2(x) + s.expm1(x) + s.erf(x) + s.erfc(x),
            s.log1p(positive) + s.gammaln(positive) + s.digamma(positive) + s.psi(positive) + s.erfinv(inside),
            s.softmax(x, 0) * s.log_softmax(x, 0),
        )

    return program, [r.any()]
