"""The same steps in JAX, jitted:  python -m benchmarks.cost.jax_child NETWORK FILE, a child of `benchmarks.cost`.

FILE holds weights, a batch, random numbers, and the output and losses of torch for them; a different output or loss in
JAX is an error. For each line NAME of the standard input the child prints the processor seconds of this step. The
shares of the batch are static slices, as in the library.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cost.jax_networks import NETWORKS, Array, Weights

Network = Callable[[Weights, Array, Array, Array], Array]
DIAGONAL = 0.75
TOLERANCE = 1e-4


def beside(time: Array, x: Array) -> Array:
    return time.reshape(-1, *[1] * (x.ndim - 1))


def flow_matching(V: Network, p: Weights, x0: Array, eps: Array, s: Array, t: Array) -> Array:
    x = (1 - beside(s, x0)) * x0 + beside(s, x0) * eps
    return jnp.mean((V(p, x, s, s) - (eps - x0)) ** 2)


def adaptive(residual: Array) -> Array:
    square = jnp.sum(residual.reshape(len(residual), -1) ** 2, axis=1)
    return jnp.mean(square / (jax.lax.stop_gradient(square) + 1e-2))


def meanflow(V: Network, p: Weights, x0: Array, eps: Array, s: Array, t: Array) -> Array:
    k = int(DIAGONAL * len(x0))
    x, u = (1 - beside(s, x0)) * x0 + beside(s, x0) * eps, eps - x0
    diagonal = adaptive(V(p, x[:k], s[:k], s[:k]) - u[:k])
    x, u, s, t = x[k:], u[k:], s[k:], t[k:]
    value, slope = jax.jvp(lambda y, a: V(p, y, a, t), (x, s), (u, jnp.ones_like(s)))
    target = jax.lax.stop_gradient(u + beside(t - s, x) * slope)
    return DIAGONAL * diagonal + (1 - DIAGONAL) * adaptive(value - target)


def lsd(V: Network, p: Weights, x0: Array, eps: Array, s: Array, t: Array) -> Array:
    k = int(DIAGONAL * len(x0))
    diagonal = flow_matching(V, p, x0[:k], eps[:k], s[:k], s[:k])
    x0, eps, s, t = x0[k:], eps[k:], s[k:], t[k:]
    x, gap = (1 - beside(s, x0)) * x0 + beside(s, x0) * eps, beside(t - s, x0)
    value, slope = jax.jvp(lambda b: V(p, x, s, b), (t,), (jnp.ones_like(t),))
    target = jax.lax.stop_gradient(V(p, x + gap * value, t, t))
    return DIAGONAL * diagonal + (1 - DIAGONAL) * jnp.mean((value + gap * slope - target) ** 2)


LOSSES = {"flow_matching": flow_matching, "meanflow": meanflow, "lsd": lsd}


def drawn(key: Array, x0: Array) -> tuple[Array, Array, Array]:
    """Draw noise and two times, the later one first; the diagonal term ignores the second."""
    for_noise, for_times = jax.random.split(key)
    a, b = jax.nn.sigmoid(jax.random.normal(for_times, (2, len(x0))) - 0.4)
    return jax.random.normal(for_noise, x0.shape), jnp.maximum(a, b), jnp.minimum(a, b)


def step(loss: Callable[..., Array], p: Weights, key: Array, x0: Array) -> tuple[Array, Weights]:
    return jax.value_and_grad(lambda q: loss(q, x0, *drawn(key, x0)))(p)


def works(V: Network, p: Weights, x0: Array, s: Array) -> dict[str, Any]:
    """Compile the programs; returns each with its arguments."""
    key = jax.random.key(0)
    programs = {"forward": (jax.jit(V), (p, x0, s, s))}
    for name, loss in LOSSES.items():
        programs[name] = (jax.jit(partial(step, partial(loss, V))), (p, key, x0))
    return {name: (program.lower(*given).compile(), given) for name, (program, given) in programs.items()}


def planned_bytes(program: Any) -> int:
    """Planned bytes of temporaries and results."""
    plan = program.memory_analysis()
    return plan.temp_size_in_bytes + plan.output_size_in_bytes


def check(name: str, found: Any, expected: np.ndarray) -> None:
    """Raise SystemExit if JAX computes a different value."""
    error = float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())
    if not error < TOLERANCE:
        raise SystemExit(f"{name} in JAX differs from torch by {error:.1e} of the largest value")


def matrix_rate(size: int) -> float:
    """Operations per second in a product of square matrices, the best of several runs."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)).astype("float32"))
    multiply = jax.jit(jnp.matmul)
    multiply(a, a).block_until_ready()
    return 2 * size**3 / min(timed(multiply, (a, a)) for _ in range(7))


def timed(program: Any, given: tuple[Any, ...]) -> float:
    """Processor seconds of one call; on a GPU the time until the result is ready."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    start = clock()
    jax.block_until_ready(program(*given))
    return clock() - start


def main() -> None:
    """Check the results, print the planned memory, then answer requests."""
    network, path = sys.argv[1:]
    V, stored = NETWORKS[network], dict(np.load(path))
    p = {key.removeprefix("p:"): jnp.asarray(value) for key, value in stored.items() if key.startswith("p:")}
    x0, eps, s, t = (jnp.asarray(stored[key]) for key in ("x0", "eps", "s", "t"))
    check(network, jax.jit(V)(p, x0, s, t), stored["output"])
    for name, loss in LOSSES.items():
        check(f"{name} of {network}", jax.jit(partial(loss, V))(p, x0, eps, s, t), stored[f"loss:{name}"])
    programs = works(V, p, x0, s)
    memory = {name: planned_bytes(program) for name, (program, _) in programs.items()}
    print(json.dumps({"jax": jax.__version__, "bytes": memory}), flush=True)
    for line in sys.stdin:
        name = line.strip()
        found = matrix_rate(int(name)) if name.isdigit() else timed(*programs[name])
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
