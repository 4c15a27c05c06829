"""A derivative under autocast to bfloat16: what runs in which precision, and how far the result is from float64."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flowmaps import derivative
from flowmaps.networks import DiT


class Precisions(TorchDispatchMode):
    """How often each operation ran on which dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        if tensors:
            self.count[func.overloadpacket.__name__, tensors[0].dtype] += 1
        return func(*args, **(kwargs or {}))


def network() -> nn.Module:
    torch.manual_seed(0)
    net = DiT((2, 8, 8), 2, width=64, depth=3, heads=2)
    with torch.no_grad():
        for p in net.parameters():  # the blocks start as the identity and the output at zero
            p.add_(0.05 * torch.randn_like(p) * (not p.any()))
    return net


def inputs():
    generator = torch.Generator().manual_seed(1)
    x, dx = torch.randn(2, 8, 2, 8, 8, generator=generator)
    return (x, *torch.rand(2, 8, generator=generator)), (dx, 1, 0)


@pytest.mark.parametrize("mode", [derivative.jvp, derivative.detached])
def test_products_run_in_half_and_the_rest_of_the_tangent_in_float(mode):
    net, (z, dz) = network(), inputs()
    with torch.autocast("cpu", torch.bfloat16), Precisions() as seen:
        value, d = mode(net, z, dz)
    count, half, full = seen.count, torch.bfloat16, torch.float32
    layers = 3 * 4 + 3  # four of each block, modulation, input, output
    assert count["addmm", half] == count["mm", half] == layers  # values, tangents
    assert count["baddbmm", half] == 3 * 5 and count["baddbmm", full] == 0
    for operation in ("sin", "cos", "_softmax", "_softmax_backward_data"):
        assert count[operation, full] > 0 and count[operation, half] == 0
    assert value.dtype == d.dtype == torch.float32


@pytest.mark.parametrize("mode", [derivative.jvp, derivative.detached, derivative.separate])
def test_value_derivative_and_gradients_within_a_64th_of_float64(mode):
    """bfloat16 has a relative error of 2^-9 in each number; here the norms are within 2^-7."""
    net, (z, dz) = network(), inputs()
    exact = copy.deepcopy(net).double()
    expected = mode(exact, [x.double() for x in z], (dz[0].double(), 1, 0))
    with torch.autocast("cpu", torch.bfloat16):
        ours = mode(net, z, dz)
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad((value * d).sum(), list(f.parameters()))])
        for f, (value, d) in ((net, ours), (exact, expected))
    ]
    for a, b in (*zip(ours, expected, strict=True), gradients):
        assert (a - b).norm() < 2**-6 * b.norm()
