"""Roads of float32 matrix products: errors against float64, what is left behind, and the choice."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor

import flowmaps as fm
from benchmarks import matmul as benchmark
from benchmarks import matmul_errors
from flowmaps import matmul

ROADS = matmul.roads()
BFLOAT16 = 2**-7
"""Where oneDNN takes up bfloat16, both factors are rounded by at most 2^-9 and the error of a product is below this."""


def bound(road: matmul.Road) -> float:
    """Float32, or bfloat16 where the processor has units for it."""
    return matmul.ROUNDING if matmul.relative_error(road) <= matmul.ROUNDING else BFLOAT16


def distance(y: Tensor, exact: Tensor) -> float:
    return ((y.detach().double() - exact).norm() / exact.norm()).item()


def switch() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def test_stock_products_are_float32() -> None:
    assert 1e-8 < matmul.relative_error(matmul.stock) <= matmul.ROUNDING


def test_the_error_of_bfloat16_is_seen() -> None:
    """Each factor has a relative error up to 2^-9, 2^-9 / sqrt(3) in the mean square."""
    found = matmul.relative_error(lambda: torch.autocast("cpu", torch.bfloat16))
    assert 1e-3 < found < BFLOAT16


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("shape", [(512, 256, 256), (64, 768, 96), (1, 33, 7), (5, 1, 3)])
def test_products_of_a_layer(road: matmul.Road, shape: tuple[int, int, int]) -> None:
    rows, inner, outer = shape
    torch.manual_seed(0)
    x, w, b, g = torch.randn(rows, inner), torch.randn(outer, inner), torch.randn(outer), torch.randn(rows, outer)
    x.requires_grad_(), w.requires_grad_()
    with road():
        y = torch.nn.functional.linear(x, w, b)
        dx, dw = torch.autograd.grad(y, (x, w), g)
    x, w, b, g = (a.detach().double() for a in (x, w, b, g))
    for found, exact in [(y, x @ w.t() + b), (dx, g @ w), (dw, g.t() @ x)]:
        assert distance(found, exact) <= bound(road)


def differentiated(network: torch.nn.Module, x: Tensor, dx: Tensor) -> list[Tensor]:
    """A value, its derivative along dx, and the gradient of both, which is a second derivative."""
    y, dy = fm.derivative.jvp(network, (x,), (dx,))
    return [y, dy, *torch.autograd.grad(y.square().sum() + dy.square().sum(), list(network.parameters()))]


@pytest.mark.parametrize("road", ROADS)
def test_derivatives_and_gradients_through_them(road: matmul.Road) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(48, 96), torch.nn.Tanh(), torch.nn.Linear(96, 48))
    x, dx = torch.randn(64, 48), torch.randn(64, 48)
    with road():
        found = differentiated(network, x, dx)
    exact = differentiated(network.double(), x.double(), dx.double())
    assert max(map(distance, found, exact)) <= 4 * bound(road)


@pytest.mark.parametrize("road", ROADS)
def test_a_compiled_function_takes_the_road(road: matmul.Road) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(64, 48), torch.randn(96, 48, requires_grad=True)
    compiled = torch.compile(lambda x, w: torch.nn.functional.linear(x, w).square().sum(), backend="aot_eager")
    with road():
        (gradient,) = torch.autograd.grad(compiled(x, w), w)
    w = w.detach().double()
    assert distance(gradient, 2 * (w @ x.double().t()) @ x.double()) <= 2 * bound(road)


@pytest.mark.parametrize("road", ROADS)
def test_the_switch_is_put_back(road: matmul.Road) -> None:
    before = switch()
    with pytest.raises(KeyError), road(), road():
        raise KeyError
    assert switch() == before


def test_onednn_is_on_within() -> None:
    with matmul.onednn():
        assert switch() == "bf16"


def without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)


def test_without_onednn_there_is_the_stock_road(monkeypatch: pytest.MonkeyPatch) -> None:
    without_onednn(monkeypatch)
    assert matmul.roads() == (matmul.stock,) and matmul.fastest() is matmul.stock
    with pytest.raises(RuntimeError, match="use `stock`"), matmul.onednn():
        pass


class Course:
    """Roads on which work takes the times that were said, by a clock of their own."""

    def __init__(self) -> None:
        self.now, self.pace, self.calls = 0.0, 0.0, 0

    def road(self, *seconds: float) -> matmul.Road:
        """Work takes the first of `seconds` when it is first done here, then the next, and at last the last."""
        left = list(seconds)

        @contextmanager
        def taken():  # noqa: ANN202
            self.pace = left[0]
            yield
            if len(left) > 1 and self.calls:
                left.pop(0)
            self.calls = 0

        return taken

    def work(self) -> None:
        self.now, self.calls = self.now + self.pace, self.calls + 1

    def fastest(self, *among: matmul.Road, **options: float) -> matmul.Road:
        return matmul.fastest(self.work, among=among, clock=lambda: self.now, **options)


def test_the_faster_road_is_chosen() -> None:
    course = Course()
    slow, fast, faster = course.road(3.0), course.road(2.0), course.road(1.0)
    assert course.fastest(slow, fast, faster) is faster
    assert course.fastest(fast, slow) is fast


def test_a_road_has_its_shortest_time_and_warms_up_first() -> None:
    course = Course()
    steady, disturbed = course.road(2.0), course.road(90.0, 9.0, 1.0, 9.0, 9.0)
    assert course.fastest(steady, disturbed, rounds=3) is disturbed
    steady, warm_up_only = course.road(2.0), course.road(1.0, 9.0)
    assert course.fastest(steady, warm_up_only, rounds=3) is steady


@pytest.mark.parametrize(("seconds", "leaves"), [(0.96, False), (0.94, True)])
def test_the_first_road_is_left_for_a_gain(seconds: float, leaves: bool) -> None:
    course = Course()
    first, other = course.road(1.0), course.road(seconds)
    assert course.fastest(first, other) is (other if leaves else first)


def test_a_faster_road_that_rounds_is_taken_only_where_that_is_allowed() -> None:
    course = Course()
    exact, paced = course.road(2.0), course.road(1.0)

    @contextmanager
    def rounding():  # noqa: ANN202
        with paced(), torch.autocast("cpu", torch.bfloat16):
            yield

    assert course.fastest(exact, rounding) is exact
    assert course.fastest(exact, rounding, error=BFLOAT16) is rounding


def test_choosing_leaves_random_numbers_and_the_switch_alone() -> None:
    before = torch.get_rng_state(), switch()
    road = matmul.fastest(rounds=1)
    assert road in ROADS and torch.equal(torch.get_rng_state(), before[0]) and switch() == before[1]


def test_the_benchmark_leaves_its_tables(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "LAYERS", {"layer": (8, 4, 6)})
    monkeypatch.setattr(benchmark, "ATTENTION", {"attention": (2, 2, 4, 8)})
    monkeypatch.setattr(benchmark, "NETWORKS", {"MLP": (lambda: fm.networks.MLP(4, width=8, depth=1), (6, 4))})
    monkeypatch.setattr(matmul_errors, "SAMPLES", 100)
    monkeypatch.setattr(benchmark, "preloaded", lambda: nullcontext(None))
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    out = tmp_path / "table.md"
    benchmark.main(["--rounds", "1", "--train-steps", "2", "--seeds", "1", "--out", str(out)])
    rates, steps, errors, trained, provenance = out.read_text().split("\n\n")
    assert [line.split("|")[1].strip() for line in rates.splitlines()[2:]] == [
        "layer, forward", "layer, dX", "layer, dW", "attention"
    ]  # fmt: skip
    assert [line.split("|")[1].strip() for line in steps.splitlines()[2:]] == ["MLP, flow matching", "MLP, MeanFlow"]
    found = {line.split("|")[1].strip(): [float(e) for e in line.split("|")[2:-1]] for line in errors.splitlines()[2:]}
    assert max(found["MKL"]) < 1e-5 and 1e-3 < max(found["bfloat16"]) < 3e-2
    assert "flow matching" in trained and "python -m benchmarks.matmul" in provenance
