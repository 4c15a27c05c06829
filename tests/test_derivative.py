"""All modes of the derivative agree, keep or stop the gradients that they say, and refuse what they cannot do."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flowmaps.derivative import detached, finite_difference, functorch, jvp, keep, rewound, separate, stop, time_part

F64 = torch.float64
SHARED = {"jvp": jvp, "detached": detached, "separate": separate, "functorch": functorch}
TANGENTS = {
    "along the path": lambda x: (torch.sin(3 * x), 1, 0),
    "target": lambda x: (0, 0, 1),
    "tensors": lambda x: (
        x.flip(0),
        torch.full((len(x), 1), 0.3, dtype=F64),
        torch.linspace(-1, 1, len(x), dtype=F64)[:, None],
    ),
    "standing still": lambda x: (0, 0, 0),
}


class Net(nn.Module):
    """A small network with the operations that matter; no layer norm, whose second derivative torch gets wrong."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.dropout = nn.Dropout(dropout)
        self.double()

    def forward(self, x, s, t):
        h = F.silu(self.first(torch.cat([x, torch.sin(s), torch.cos(s - t)], -1)))
        h = h + self.dropout(F.softmax(self.second(h), -1) * F.gelu(h))
        return self.last(h) * (1 + t)


def inputs(rows=6, low=0.1, high=0.9):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 2, dtype=F64, generator=generator)
    times = low + (high - low) * torch.rand(2, rows, 1, dtype=F64, generator=generator)
    return x, times[0], times[1]


def gradients(loss, net):
    return torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)


@pytest.mark.parametrize("direction", TANGENTS)
@pytest.mark.parametrize("mode", SHARED)
def test_forward_modes_agree_with_torch(mode, direction):
    net, z = Net(), inputs()
    value, d = SHARED[mode](net, z, TANGENTS[direction](z[0]))
    expected_value, expected_d = functorch(net, z, TANGENTS[direction](z[0]))
    torch.testing.assert_close((value, d), (expected_value, expected_d), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(value, net(*z), rtol=1e-12, atol=1e-13)


def test_gradients_through_value_and_derivative():
    net, z = Net(), inputs()
    tangents = TANGENTS["along the path"](z[0])
    target = torch.ones(6, 2, dtype=F64)
    V, d = functorch(net, z, tangents)
    through_both = gradients((V + 0.7 * d - target).square().sum(), net)
    through_value = gradients((V + 0.7 * d.detach() - target).square().sum(), net)
    for mode, expected in ((jvp, through_both), (detached, through_value), (separate, through_value)):
        V, d = mode(net, z, tangents)
        assert d.requires_grad == (mode is jvp)
        torch.testing.assert_close(
            gradients((V + 0.7 * d - target).square().sum(), net), expected, rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize(("central", "order"), [(True, 2), (False, 1)])
def test_finite_differences_converge_at_their_order_in_value_and_gradient(central, order):
    """Also at the ends of [0, 1], where a row looks to the inner side only."""
    net = Net()
    x, s, t = inputs(4)
    s = torch.tensor([[1.0], [0.0], [0.5], [0.999]], dtype=F64)
    tangents = (torch.sin(3 * x), 1, 0.5)
    _, exact = jvp(net, (x, s, t), tangents)
    exact_gradient = gradients(exact.square().sum(), net)[0]
    errors, gradient_errors = [], []
    for h in (4e-3, 2e-3):
        value, d = finite_difference(h, central)(net, (x, s, t), tangents)
        torch.testing.assert_close(value, net(x, s, t))
        errors.append((d - exact).abs().amax(1))
        gradient_errors.append((gradients(d.square().sum(), net)[0] - exact_gradient).abs().max())
    ratio = torch.stack([*(errors[0] / errors[1]), gradient_errors[0] / gradient_errors[1]])
    torch.testing.assert_close(ratio.log2(), torch.full_like(ratio, order), rtol=0, atol=0.1)


@pytest.mark.parametrize("central", [True, False])
def test_finite_differences_stay_inside_the_times(central):
    seen = []

    def f(x, s, t):
        seen.append((s, t))
        return x * s * s - t

    x = torch.ones(5, 2, dtype=F64)
    s = torch.tensor([0.0, 0.005, 0.5, 0.995, 1.0], dtype=F64)[:, None]
    finite_difference(0.01, central)(f, (x, s, s), (x, 1, 0))
    finite_difference(0.01, central)(f, (x, s, s), (0, -1, -1))
    for times in seen:
        assert all(((time >= 0) & (time <= 1)).all() for time in times)
    assert len(seen) == (6 if central else 4)


def test_finite_difference_in_float32_reaches_the_documented_accuracy():
    net = Net().float()
    x, s, t = (a.float() for a in inputs(256))
    tangents = (torch.sin(3 * x), 1, 0)
    _, exact = jvp(net, (x, s, t), tangents)
    _, d = finite_difference()(net, (x, s, t), tangents)
    assert (d - exact).norm() / exact.norm() < 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        _, same = finite_difference()(net, (x, s, t), tangents)
    assert same.dtype == torch.float32
    torch.testing.assert_close(same, d, rtol=0, atol=0)


@pytest.mark.parametrize("central", [True, False])
def test_neighbours_of_a_finite_difference_may_be_stopped(central):
    """Then (f(z + h dz) - f(z)) / h has the gradient of -f(z) / h alone; the central form, for rows that may look both
    ways, has none.
    """
    net, z, h = Net(), inputs(low=0.3, high=0.7), 0.05
    tangents = TANGENTS["along the path"](z[0])
    value, d = finite_difference(h, central, around=stop)(net, z, tangents)
    kept = finite_difference(h, central)(net, z, tangents)
    torch.testing.assert_close((value, d), kept, rtol=0, atol=0)
    slope = 0.0 if central else -1 / h
    expected = [slope * g for g in gradients(value.sum(), net)]
    torch.testing.assert_close(list(gradients(d.sum(), net)), expected, rtol=1e-9, atol=1e-9)
    total = gradients((value + 0.1 * d.detach()).sum(), net)
    torch.testing.assert_close(total, gradients(net(*z).sum(), net))


def test_what_follows_a_rewound_pass_draws_the_same_numbers():
    net, z = Net(dropout=0.5), inputs()
    torch.manual_seed(5)
    with rewound(z[0].device):
        first = net(*z)
    again, other = net(*z), net(*z)
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(5)
    assert torch.equal(net(*z), first) and torch.equal(net(*z), other)


@pytest.mark.parametrize(
    "mode", [jvp, detached, separate, finite_difference(1e-4), time_part(), time_part(jvp, separate)]
)
def test_random_operations_see_the_same_numbers(mode):
    net, z = Net(dropout=0.4), inputs()
    tangents = TANGENTS["along the path"](z[0])
    torch.manual_seed(5)
    value, d = mode(net, z, tangents)

    def plain(*inputs):
        torch.manual_seed(5)
        return net(*inputs)

    torch.testing.assert_close(value, plain(*z))
    _, expected = finite_difference(1e-5)(plain, z, tangents)
    torch.testing.assert_close(d, expected, rtol=1e-6, atol=1e-6)


def test_time_part_keeps_the_gradient_along_the_times_and_stops_it_along_the_state():
    net, z = Net(), inputs()
    v = torch.sin(3 * z[0])
    V, d = time_part()(net, z, (v, 1, 0.5))
    V_expected, along_times = functorch(net, z, (0, 1, 0.5))
    _, along_state = functorch(net, z, (v, 0, 0))
    expected = along_times + along_state.detach()
    torch.testing.assert_close((V, d), (V_expected, expected), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(
        gradients((V + d).square().sum(), net),
        gradients((V_expected + expected).square().sum(), net),
        rtol=1e-9,
        atol=1e-11,
    )


def test_functions_with_several_results():
    def f(x, s, t):
        return x * s, t * t, torch.ones(6)

    z = inputs()
    for mode in (jvp, detached, separate, finite_difference(1e-5)):
        (a, b, c), (da, db, dc) = mode(f, z, (z[0], 1, 0))
        torch.testing.assert_close((a, b, c), f(*z))
        torch.testing.assert_close(da, z[0] * z[1] + z[0], rtol=1e-6, atol=1e-6)
        assert db.abs().max() == 0 and dc.abs().max() == 0
        assert db.shape == b.shape and dc.shape == c.shape


def test_cost_in_products_of_a_network():
    net, z = Net(), inputs()

    def products(run):
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    forward = products(lambda: net(*z))
    tangents = TANGENTS["along the path"](z[0])
    expected = {jvp: 2, detached: 2, separate: 3, finite_difference(): 3, finite_difference(central=False): 2}
    for mode, passes in expected.items():
        assert products(lambda mode=mode: mode(net, z, tangents)) == passes * forward
    assert products(lambda: jvp(net, z, (0, 0, 0))) == forward


def test_keep_and_stop():
    x = torch.ones(2, requires_grad=True)
    assert keep(x) is x and not stop(x).requires_grad
    square = stop(lambda a, power: (a**power, a))
    value, same = square(x, power=2)
    assert not value.requires_grad and torch.equal(value, torch.ones(2))
    assert same is not None
    with pytest.raises(TypeError, match="expected a tensor or a function"):
        stop(3.0)


def test_wrong_input_is_refused():
    x, s, t = inputs()
    net = Net()
    with pytest.raises(ValueError, match="one tangent for each of the 3 inputs, got 2"):
        jvp(net, (x, s, t), (x, 1))
    with pytest.raises(ValueError, match=r"tangent of shape \(6, 1\) for input 1, got \(6,\)"):
        jvp(net, (x, s, t), (x, torch.ones(6, dtype=F64), 0))
    with pytest.raises(TypeError, match="input 1 to be a floating-point tensor, got torch.int64"):
        jvp(net, (x, torch.ones(6, 1).long(), t), (x, 1, 0))
    with pytest.raises(TypeError, match="derivative of a derivative"):
        jvp(lambda x, s, t: jvp(net, (x, s, t), (0, 1, 0))[1], (x, s, t), (x, 1, 0))
    with pytest.raises(ValueError, match=r"\(0, 0.25\]"):
        finite_difference(0.0)
    with pytest.raises(TypeError, match="float32 or float64"):
        finite_difference()(net, (x.bfloat16(), s.float(), t.float()), (0, 1, 0))


class Block(nn.Module):
    """A transformer block modulated by the times, as in a DiT."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm, self.modulation = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(2, 2 * width)

    def forward(self, x, s, t):
        shift, scale = self.modulation(F.silu(torch.cat([torch.sin(s), t - s], -1)))[:, None].chunk(2, -1)
        h = self.norm(x) * (1 + scale) + shift
        q, k, v = self.qkv(h).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x, s, t):
        return self.last(F.silu(self.first(torch.cat([x, s, t], -1))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "net", "shape", "backend"),
    [
        (detached, Tiny(), (2,), "inductor"),
        (detached, Net(), (2,), "aot_eager"),
        (jvp, Net(), (2,), "aot_eager"),
        (time_part(), Net(), (2,), "aot_eager"),
        (detached, Block(), (3, 16), "aot_eager"),
        (jvp, Block(), (3, 16), "aot_eager"),
    ],
)
def test_whole_loss_compiles_without_a_graph_break(mode, net, shape, backend):
    net = net.float()
    x, s, t = torch.randn(4, *shape), torch.rand(4, 1), torch.rand(4, 1)

    def loss(x, s, t):
        V, d = mode(net, (x, s, t), (x.cos(), 1, 0))
        return (V + d).square().mean()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend=backend)(x, s, t)
    torch.testing.assert_close(compiled, loss(x, s, t))
    torch.testing.assert_close(gradients(compiled, net), gradients(loss(x, s, t), net), rtol=1e-4, atol=1e-5)
