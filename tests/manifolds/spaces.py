"""Manifolds of the tests, with random points and unit tangent vectors."""

import torch

from flowmaps.manifolds import SO3, Euclidean, Hyperbolic, Product, Sphere, Torus

SPACES = {
    "euclidean": Euclidean(2),
    "torus": Torus(3),
    "circle": Sphere(1),
    "sphere": Sphere(2),
    "rotations": SO3(),
    "hyperbolic": Hyperbolic(3),
    "product": Product(Sphere(2), Torus(1), Product(SO3(), Hyperbolic(2))),
}


def numbers(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def points(space, rows=64, seed=0, dtype=torch.float64):
    return space.noise(numbers(seed, rows, space.size, dtype=dtype))


def directions(space, x, seed=1):
    """Random tangent vectors of length 1."""
    u = space.tangent(x, numbers(seed, *x.shape, dtype=x.dtype))
    u = space.tangent(x, u / length(space, x, u))
    return u / length(space, x, u)


def length(space, x, u):
    return space.scale(x, u).norm(dim=-1, keepdim=True)
