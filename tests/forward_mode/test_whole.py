"""Networks that write in place: the second engine takes over, with a word, or a message names the way out."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flowmaps import derivative
from flowmaps.derivative import detached, finite_difference, functorch, jvp, rewound, separate
from flowmaps.forward_mode import warn_of

F64 = torch.float64
ROWS = 4
torch.manual_seed(0)
IN, OUT = nn.Linear(4, 6).double(), nn.Linear(6, 4).double()
BUFFER = torch.zeros(ROWS, 4, dtype=F64)


def hidden(x, s, t):
    return torch.tanh(IN(x + s[:, None] - t[:, None] ** 2))


def padded(x, s, t):
    out = torch.zeros(len(x), 8, dtype=x.dtype)
    out[..., :6] = hidden(x, s, t)
    return OUT(out[:, :6] * out[:, 1:7])


def made_new(x, s, t):
    out = x.new_zeros(len(x), 8)
    out[:, 1:7] = hidden(x, s, t)
    return OUT(out[:, 1:7])


def by_columns(x, s, t):
    out = torch.zeros_like(x)
    for i in range(4):
        out[:, i] = x[:, i] * s + (out[:, i - 1].clone() if i else t)
    return out


def graph(x, s, t):
    """The messages of a GCNConv: sums over the neighbours of a node."""
    h = hidden(x, s, t)
    return OUT(torch.zeros_like(h).index_add_(0, torch.tensor([1, 0, 2, 3])[: len(x)], h) + h)


def scattered(x, s, t):
    h = hidden(x, s, t)
    return OUT(torch.zeros(h.shape, dtype=h.dtype).scatter_add_(1, torch.zeros(h.shape, dtype=torch.long), h))


def fourier(x, s, t):
    """A layer of a Fourier neural operator: the low frequencies, written into zeros."""
    low = torch.fft.rfft(x * s[:, None])[:, :2] * (1 + 2j)
    out = torch.zeros(len(x), 3, dtype=low.dtype)
    out[:, :2] = low
    return torch.fft.irfft(out, n=4) * OUT.bias


def added(x, s, t):
    return OUT(IN(x + t[:, None]).add_(1.0).mul_(s[:, None]))


def overwritten(x, s, t):
    h = hidden(x, s, t).clone()
    h[0], h[:, 2] = h[1] * 2, 0
    return OUT(h)


def clamped(x, s, t):
    return OUT(IN(x * s[:, None] + t[:, None]).clamp_(-0.3, 0.3))


def masked(x, s, t):
    h = hidden(x, s, t).clone()
    return OUT(h.masked_fill_(h > 0.2, 0.0))


def copied(x, s, t):
    out = torch.empty(len(x), 4, dtype=x.dtype)
    out.copy_(x * s[:, None])
    return out * OUT.bias


WAYS = [padded, made_new, by_columns, graph, scattered, fourier, added, overwritten, clamped, masked, copied]


def inputs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 4, dtype=F64, generator=generator)
    s, t = (torch.rand(ROWS, dtype=F64, generator=generator) * 0.3 + low for low in (0.5, 0.1))
    return (x, s, t), (x.cos(), 1, 0.5)


def gradient(d):
    weights = [*IN.parameters(), *OUT.parameters()]
    found = torch.autograd.grad(d.square().sum(), weights, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


@pytest.mark.filterwarnings("ignore:expected an operation that makes a new tensor")
@pytest.mark.parametrize("mode", [jvp, detached, separate])
@pytest.mark.parametrize("way", WAYS)
def test_a_network_that_writes_in_place_has_its_derivative(way, mode):
    z, tangents = inputs()
    value, d = mode(way, z, tangents)
    torch.testing.assert_close(value, way(*z), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(d, functorch(way, z, tangents)[1], rtol=1e-12, atol=1e-13)
    _, near = finite_difference(1e-4)(way, z, tangents)
    torch.testing.assert_close(d, near, rtol=1e-5, atol=1e-6)
    assert d.requires_grad == (mode is jvp and near.requires_grad)
    if d.requires_grad:
        torch.testing.assert_close(gradient(d), gradient(near), rtol=1e-4, atol=1e-5)
    if mode is not jvp and value.requires_grad:
        torch.testing.assert_close(gradient(value), gradient(way(*z)))


def test_it_is_said_once():
    warn_of.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            detached(clamped, *inputs())
    said = [str(one.message) for one in caught if "makes a new tensor" in str(one.message)]
    assert len(said) == 1 and "clamp_ in place" in said[0] and "derivative.functorch" in said[0]


@pytest.mark.filterwarnings("ignore:expected an operation that makes a new tensor")
@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.BatchNorm1d(4, track_running_stats=False), nn.InstanceNorm1d(2)])
def test_a_gradient_that_torch_gets_wrong_is_refused(norm):
    """Of torch's second derivative through these norms; without a gradient through d they are right."""
    norm.double()

    def way(x, s, t):
        out, h = torch.zeros_like(x), x * s[:, None]
        out[:] = norm(h.unflatten(1, (2, 2))).flatten(1) if isinstance(norm, nn.InstanceNorm1d) else norm(h)
        return out * OUT.bias

    z, tangents = inputs()
    with pytest.raises(TypeError, match=r"wrong gradients through \w+_norm.*finite_difference\(\)"):
        jvp(way, z, tangents)
    torch.testing.assert_close(
        detached(way, z, tangents)[1], finite_difference(1e-4)(way, z, tangents)[1].detach(), rtol=1e-5, atol=1e-5
    )


def into_a_buffer(x, s, t):
    BUFFER.zero_()
    BUFFER[:] = x * s[:, None]
    return BUFFER * 2


@pytest.mark.parametrize("mode", [jvp, detached])
def test_where_both_engines_fail_the_message_names_the_way_out(mode):
    with pytest.raises(TypeError, match=r"in place.*torch's own forward mode.*finite_difference\(\).*torch.cat"):
        mode(into_a_buffer, *inputs())
    _, d = finite_difference(1e-4)(lambda *z: into_a_buffer(*z).clone(), *inputs())
    assert d.abs().max() > 0


@pytest.mark.filterwarnings("ignore:expected an operation that makes a new tensor")
def test_both_passes_draw_the_same_masks():
    z, tangents = inputs()

    def way(x, s, t):
        return OUT(F.dropout(hidden(x, s, t), 0.5).add_(1.0))

    detached(way, z, tangents)  # from the warning on, a second attempt starts from the same random numbers
    with rewound(z[0].device):
        expected = way(*z)
    torch.testing.assert_close(detached(way, z, tangents)[0], expected)


@pytest.mark.filterwarnings("ignore:no forward-mode rule")
@pytest.mark.parametrize("made", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_recurrent_layers_in_every_precision(made, dtype):
    """oneDNN's kernel of an LSTM in float32 has no forward mode."""
    torch.manual_seed(0)
    layer, last = made(4, 5, 2, batch_first=True, bidirectional=True).to(dtype), nn.Linear(10, 4).to(dtype)

    def net(x, s, t):
        steps = torch.stack([x * s[:, None], x + t[:, None], x], 1)
        return last(layer(steps)[0][:, -1])

    z, tangents = inputs()
    z, tangents = tuple(one.to(dtype) for one in z), (tangents[0].to(dtype), *tangents[1:])
    _, near = finite_difference(1e-2 if dtype is torch.float32 else 1e-4)(net, z, tangents)
    for mode in (jvp, detached):
        value, d = mode(net, z, tangents)
        torch.testing.assert_close(value, net(*z))
        torch.testing.assert_close(d, near, rtol=1e-3, atol=1e-3)


def test_flex_attention_is_refused_with_the_way_out():
    from torch.nn.attention.flex_attention import flex_attention

    def net(x, s, t):
        q = (x * s[:, None])[:, None, :, None].expand(-1, 1, 4, 16)
        return flex_attention(q, q, q)[:, 0, :, 0]

    z, tangents = inputs()
    z, tangents = tuple(one.float() for one in z), (tangents[0].float(), 1, 0)
    with pytest.raises(TypeError, match=r"such as flex_attention: take derivative=fm.derivative.finite_difference\(\)"):
        derivative.detached(net, z, tangents)
