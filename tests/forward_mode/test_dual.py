"""Every rule against torch.func.jvp, its derivative against finite differences; then what the engine promises."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flowmaps import derivative
from flowmaps.derivative import jvp
from flowmaps.forward_mode import blocks, dual
from flowmaps.forward_mode.dual import Detached, Dual

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values with both signs, away from kinks and poles (0, 1 and -1)."""
    x = torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed + 7 * len(shape)))
    return x + 0.1 * x.sign()


W = draw(4, 4, seed=1)
ROW = draw(4, seed=2)
IMAGE = draw(1, 4, 4, 4, seed=3)
MASK = draw(4, 4, seed=4) > 0


def smaller(x):
    return 0.4 * torch.tanh(x)


ELEMENTWISE = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": lambda x: torch.tan(smaller(x)),
    "sinc": torch.sinc,
    "asin": lambda x: torch.asin(smaller(x)),
    "acos": lambda x: torch.acos(smaller(x)),
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": lambda x: torch.log(x.abs()),
    "log1p": lambda x: torch.log1p(x.abs()),
    "log2": lambda x: x.square().log2(),
    "log10": lambda x: x.square().log10(),
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: torch.rsqrt(x * x),
    "reciprocal": torch.reciprocal,
    "erf": torch.erf,
    "relu": F.relu,
    "relu in place": lambda x: F.relu(x + 0, inplace=True),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": F.logsigmoid,
    "softplus": F.softplus,
    "softplus sharp": lambda x: F.softplus(30 * x, beta=2.0, threshold=15),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU(approximate="tanh"),
    "clamp": lambda x: x.clamp(-0.7, 0.8),
    "clamp one side": lambda x: torch.clamp(x, min=0.05) + x.clamp(max=1.05) + x.clamp_min(0.01) + x.clamp_max(0.3),
    "where": lambda x: torch.where(MASK, x, x.sin()) + torch.where(MASK, 2.0, x) + x.where(x > 0, ROW),
    "masked_fill": lambda x: x.masked_fill(MASK, 3.0),
    "maximum": lambda x: torch.maximum(x, ROW) * torch.minimum(x.cos(), x),
    "maximum of equals": lambda x: torch.maximum(x, 1 * x),
}
ARITHMETIC = {
    "add": lambda x: (2 + x) + (x + ROW) + (W + x) + torch.add(x, x.sin(), alpha=0.3) + x.add(ROW, alpha=2),
    "sub": lambda x: (2 - x) - (x - ROW) - (W - x) + torch.sub(x, x.sin(), alpha=0.3) + torch.rsub(x, 1.0),
    "mul": lambda x: (2 * x) * (x * ROW) * (W * x) * x,
    "div": lambda x: 2 / x + x / 3 + ROW / x + x / ROW + x.sin() / x,
    "div of a row": lambda x: ROW[:, None] / x[:1] + x[:1] / W,
    "neg, abs": lambda x: -x + abs(x),
    "pow": lambda x: x**2 + x**3 + x**-1 + x**0 + x.abs() ** 0.5 + x.pow(2),
    "augmented": lambda x: augmented(x),
    "matmul": lambda x: x @ W + W @ x + x @ x + x @ ROW + ROW @ x + x.matmul(IMAGE).sum((0, 1)),
    "bmm": lambda x: torch.bmm(x[None], W[None]) + torch.bmm(x[None], x.T[None]),
    "mm": lambda x: torch.mm(x, x) * torch.outer(x[0], ROW),
    "einsum": lambda x: torch.einsum("ij,jk,k->ik", x, W, x[0]) + torch.einsum("ij,kj->ik", [x, W]),
    "lerp": lambda x: torch.lerp(x, W, x.sin()) + torch.lerp(W, x, 0.3),
    "addcmul": lambda x: torch.addcmul(x, W, x, value=0.5),
    "comparison": lambda x: x * (x > 0) + x * (x == x) + x * ~(x <= 1) + x * x.ne(1),
    "no derivative": lambda x: x * torch.ones_like(x) + x.round() + x * x.sign() + x.new_ones(4),
}
SHAPES = {
    "view": lambda x: x.view(2, 8).view_as(x).reshape(-1).reshape_as(x),
    "view of a broadcast": lambda x: (x[:1] + torch.zeros_like(x)).view(16),
    "permute": lambda x: x.permute(1, 0) @ x.transpose(0, 1) @ x.T @ x.mT @ x.t(),
    "flatten": lambda x: x.flatten().unflatten(0, (2, -1)).unsqueeze(1).squeeze(1).squeeze(),
    "expand": lambda x: x.expand(3, 4, 4) * x.expand_as(draw(3, 4, 4)) * x.broadcast_to(3, 4, 4).mT,
    "repeat": lambda x: x.repeat(2, 1) * x.repeat_interleave(2, 0) * x.tile(2, 1),
    "movedim": lambda x: x.movedim(0, 1) * x.swapaxes(0, 1).contiguous(),
    "index": lambda x: x[1:, None] * x[..., 0, None] + x[torch.tensor([2, 0, 1, 1]), [0, 1, 1, 3]] * x[MASK][0],
    "select": lambda x: x.narrow(1, 1, 2) * x.select(1, 2)[:, None] * x.index_select(1, torch.tensor([0, 3])),
    "gather": lambda x: x.gather(1, torch.tensor([[0, 1], [2, 2]])),
    "chunk": lambda x: torch.cat([a * b for a, b in zip(x.chunk(2, 1), x.split([2, 2], 1), strict=True)]),
    "unbind": lambda x: torch.stack([a * b for a, b in zip(x.unbind(1), x, strict=True)]) + sum(torch.unbind(x)),
    "join": lambda x: torch.cat([x, W, x.sin()], 1) * torch.stack([W, x, x]).flatten(1).repeat(1, 1)[:1, :12],
    "flip": lambda x: x.flip(0) * x.roll(1, 1) * x.tril() + x.diagonal(),
    "unfold": lambda x: x.unfold(1, 2, 1) * F.unfold(x[None, None], 2).mean(),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.reshape(4, 2, 2), 2) * F.pixel_unshuffle(x[None], 2).reshape(1, 4, 4),
    "pad": lambda x: F.pad(x, (1, 1), value=3.0) * F.pad(x[None], (1, 1), mode="circular")[0],
    "sums": lambda x: x.sum() * x.sum(0) * x.mean(1, keepdim=True) * torch.mean(x, (0, 1)) * x.cumsum(0),
    "dtype": lambda x: x.to(torch.float64).double().type_as(ROW).type(torch.float64) * W.expand_as(x).to(x),
    "foreign shape": lambda x: W.view_as(x) * x + ROW.expand_as(x),
}
LAYERS = {
    "linear": lambda x: F.linear(x, W, ROW) * F.linear(W, x) * F.linear(x, x.sin(), x[0]) * F.linear(W, W, x[0]),
    "conv2d": lambda x: F.conv2d(x.expand(1, 4, 4, 4), IMAGE.reshape(4, 4, 2, 2), ROW, padding=1),
    "conv2d weight": lambda x: F.conv2d(IMAGE, x.reshape(1, 4, 2, 2), stride=2),
    "conv2d bias": lambda x: F.conv2d(x.expand(1, 4, 4, 4), x.reshape(4, 4, 1, 1), x[0]),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x.expand(1, 4, 4, 4), IMAGE.reshape(4, 4, 2, 2), stride=2),
    "interpolate": lambda x: (
        F.interpolate(x[None, None], scale_factor=2.0) * F.interpolate(x[None, None], (8, 8), mode="bilinear")
    ),
    "avg_pool": lambda x: F.avg_pool2d(x[None], 2) * F.adaptive_avg_pool2d(x[None], 2),
    "layer_norm": lambda x: (
        F.layer_norm(x, (4,), ROW, W[0]) * F.layer_norm(x, (4, 4)) * F.layer_norm(x, (4,), x[0], x[1])
        + F.layer_norm(W, (4,), x[0])
    ),
    "group_norm": lambda x: (
        F.group_norm(x.reshape(2, 4, 2), 2, ROW, W[0]) * F.group_norm(x.reshape(2, 4, 2), 2, x[0], x[1])
    ),
    "rms_norm": lambda x: F.rms_norm(x, (4,), ROW, 1e-3) * F.rms_norm(x, (4, 4)) * F.rms_norm(x, (4,), x[0]),
    "softmax": lambda x: F.softmax(x, -1) * x.softmax(0) * torch.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "attention": lambda x: attend(x, x * ROW, x.sin()) + attend(W, W, x) + attend(x, W, W),
    "attention causal": lambda x: attend(x, x * ROW, x.sin(), is_causal=True, scale=0.3),
    "attention masked": lambda x: attend(x, x, x, MASK | MASK.mT) + attend(x, x, x, W),
    "attention grouped": lambda x: attend(x.expand(4, 4, 4), x.expand(2, 4, 4), IMAGE[0, :2], enable_gqa=True),
    "embedding": lambda x: x * F.embedding(torch.tensor([0, 1, 2, 2]), W),
    "dropout off": lambda x: F.dropout(x, 0.5, training=False) * nn.Dropout(0.0)(x),
}
WITH_JVP_OF_ONE_OPERATION = {
    "layer_norm",
    "group_norm",
    "rms_norm",
    "linear",
}  # where the parameters have a tangent too
RULES = ELEMENTWISE | ARITHMETIC | SHAPES | LAYERS


def augmented(x):
    y = x + 0
    y += ROW
    y *= x
    y -= 2.0
    y /= 3.0
    return y


def attend(query, key, value, mask=None, **options):
    query, key, value = (a if a.ndim == 3 else a[None] for a in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, mask, **options)


def dual_jvp(
    f: Callable, x: torch.Tensor, dx: torch.Tensor, kind: type[Dual] = Dual
) -> tuple[torch.Tensor, torch.Tensor]:
    y = f(kind(x, dx))
    return y.primal, y.tangent


@pytest.fixture(autouse=True)
def _no_silent_fallback():
    """A rule that falls back to torch.func.jvp warns, which fails the test unless it expects it."""
    dual._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no forward-mode rule")
        yield


@pytest.mark.parametrize("name", RULES, ids=RULES)
def test_rule_equals_forward_mode_of_torch_and_has_the_right_gradient(name):
    f, x, dx = RULES[name], draw(4, 4, seed=11), draw(4, 4, seed=12)
    with sdpa_kernel(SDPBackend.MATH):
        expected = torch.func.jvp(f, (x,), (dx,))
    for kind in (Dual, Detached):
        value, tangent = dual_jvp(f, x, dx, kind)
        torch.testing.assert_close(value, expected[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(tangent, expected[1], rtol=1e-10, atol=1e-11)
        assert tangent.dtype == value.dtype
    inputs = (x.clone().requires_grad_(), dx.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: dual_jvp(f, a, b), inputs, fast_mode=True, atol=1e-4, rtol=1e-4)


def test_sinc_at_its_centre():
    x = torch.tensor([0.0, 1e-3], dtype=F64)
    value, tangent = dual_jvp(torch.sinc, x, torch.ones_like(x))
    torch.testing.assert_close(tangent, -(torch.pi**2) / 3 * x, rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(value, 1 - (torch.pi * x) ** 2 / 6, rtol=1e-10, atol=1e-10)


def test_attention_by_blocks_of_queries_is_the_same(monkeypatch):
    f, x, dx = LAYERS["attention masked"], draw(4, 4, seed=11), draw(4, 4, seed=12)
    whole = dual_jvp(f, x, dx)
    monkeypatch.setitem(blocks.SCORES_PER_BLOCK, "cpu", 8)
    for a, b in zip(dual_jvp(f, x, dx), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_dropout_uses_one_mask_and_draws_as_the_plain_operation_does():
    x, dx = draw(64, 4), draw(64, 4, seed=1)
    torch.manual_seed(3)
    plain = F.dropout(x, 0.25)
    torch.manual_seed(3)
    value, tangent = dual_jvp(nn.Dropout(0.25), x, dx)
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(tangent, dx * (plain / x))


def test_attention_with_dropout_uses_one_mask():
    x, dx = draw(4, 4), draw(4, 4, seed=1)

    def f(x):
        torch.manual_seed(3)
        return attend(x, x, x.sin(), dropout_p=0.5)

    value, tangent = dual_jvp(f, x, dx)
    h = 1e-6
    slope = (dual_jvp(f, x + h * dx, dx)[0] - dual_jvp(f, x - h * dx, dx)[0]) / (2 * h)
    torch.testing.assert_close(tangent, slope, rtol=1e-7, atol=1e-8)


def test_operation_without_a_rule_is_differentiated_alone_with_one_warning():
    x, dx = draw(4, 4), draw(4, 4, seed=1)
    with pytest.warns(UserWarning, match="no forward-mode rule for renorm"):
        value, tangent = dual_jvp(lambda x: torch.renorm(x, 2, 0, 1.0), x, dx)
    expected = torch.func.jvp(lambda x: torch.renorm(x, 2, 0, 1.0), (x,), (dx,))
    torch.testing.assert_close((value, tangent), expected)
    dual_jvp(lambda x: torch.renorm(x, 2, 0, 1.0), x, dx)  # the second time is silent: a warning would be an error here


def test_operation_without_a_rule_that_returns_a_pair():
    x, dx = draw(4, 4), draw(4, 4, seed=1)
    with pytest.warns(UserWarning, match="aminmax"):
        low, high = torch.aminmax(Dual(x, dx), dim=1)
    for extreme, place in ((low, x.argmin(1)), (high, x.argmax(1))):
        torch.testing.assert_close(extreme.tangent, dx[range(4), place])


def test_integers_and_shapes_come_back_plain():
    x = Dual(draw(4, 3), draw(4, 3, seed=1))
    assert (x.shape, x.size(1), x.dim(), x.ndim, len(x), x.numel()) == ((4, 3), 3, 2, 2, 4, 12)
    assert (x.dtype, x.device, x.is_floating_point()) == (F64, torch.device("cpu"), True)
    for plain in (x > 0, x.long(), x.argmax(1), torch.zeros_like(x), x.detach(), x.to(torch.int32), x.isfinite()):
        assert isinstance(plain, torch.Tensor)
    assert bool(x[0, 0] == x.primal[0, 0])


@pytest.mark.parametrize(
    "operation",
    [lambda x: x.add_(1), lambda x: x.__setitem__(0, 1), lambda x: ROW.clone().add_(x), lambda x: x.zero_()],
)
def test_in_place_is_refused(operation):
    with pytest.raises((TypeError, AttributeError), match="in place|__setitem__"):
        operation(Dual(ROW.clone(), ROW))


@pytest.mark.parametrize("mode", [derivative.jvp, derivative.detached])
def test_an_empty_tensor_is_filled(mode):
    """Rotary embeddings are written so: halves of the channels into an empty tensor, here with a constant row."""

    def filled(x):
        out = torch.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * x[..., 1::2]
        out[..., 1::2] = x[..., 1::2].sin()
        out[0] = 3.0
        return out * x

    x = draw(4, 6).requires_grad_()
    value, d = mode(filled, (x,), (x.detach().cos(),))
    expected = torch.func.jvp(filled, (x,), (x.detach().cos(),))
    torch.testing.assert_close((value, d), expected)
    (ours,), (theirs,) = (torch.autograd.grad(v.sum(), x, retain_graph=True) for v in (value, filled(x)))
    torch.testing.assert_close(ours, theirs)
    if mode is derivative.jvp:
        (ours,), (theirs,) = (torch.autograd.grad(v.sum(), x, retain_graph=True) for v in (d, expected[1]))
        torch.testing.assert_close(ours, theirs)
    assert torch.empty_like(Dual(x, x), dtype=torch.int64).dtype == torch.int64


def test_assignment_into_a_plain_tensor_is_refused():
    y = torch.zeros(4, 4, dtype=F64)
    with pytest.raises(TypeError, match="__setitem__ in place"):
        y[0] = Dual(ROW, ROW)


def test_augmented_assignment_makes_a_new_number():
    plain = buffer = torch.zeros(4, dtype=F64)
    plain += Dual(ROW, 2 * ROW)
    torch.testing.assert_close((plain.primal, plain.tangent, buffer), (ROW, 2 * ROW, torch.zeros(4, dtype=F64)))
    x = y = Dual(ROW, ROW)
    y += 1.0
    torch.testing.assert_close((x.primal, y.primal), (ROW, ROW + 1))


@pytest.mark.parametrize(
    ("f", "forward_products", "dual_products"),
    [
        (lambda x: F.linear(x, W, ROW), 1, 2),
        (lambda x: x @ W, 1, 2),
        (lambda x: x @ x, 1, 3),
        (lambda x: F.conv2d(x[None, None], IMAGE.reshape(16, 1, 2, 2)), 1, 2),
        (lambda x: attend(x, x.sin(), x.cos()), 2, 7),
    ],
)
def test_products_are_counted_exactly(f, forward_products, dual_products):
    counts = []
    for x in (draw(4, 4), Dual(draw(4, 4), draw(4, 4, seed=1))):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            f(x)
        counts.append(counter.get_total_flops())
    assert counts[1] * forward_products == counts[0] * dual_products


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 32), nn.SiLU(), nn.LayerNorm(32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 4)
    ).double()


def test_detached_tangents_store_nothing_and_leave_the_gradient_of_the_value():
    net, x, dx = network(), draw(8, 4), draw(8, 4, seed=1)
    stored = {}
    for name, run in {
        "plain": lambda: net(x),
        "detached": lambda: net(Detached(x, dx)),
        "dual": lambda: net(Dual(x, dx)),
    }.items():
        sizes: list[int] = []
        with saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            y = run()
        stored[name] = sum(sizes)
        value = dual.primal(y)
        gradients = torch.autograd.grad(value.square().sum(), net.parameters())
        if name == "plain":
            expected = gradients
        torch.testing.assert_close(gradients, expected)
        if name == "detached":
            assert not y.tangent.requires_grad
    assert stored["detached"] == stored["plain"] < stored["dual"]


def test_autocast_runs_products_in_half_and_time_arithmetic_in_float():
    seen = {}

    def f(t):
        h = torch.cat([torch.sin(t * 3), torch.cos(t)], 1)
        y = F.linear(h, torch.ones(2, 2))
        seen.update(time=h, product=y)
        return F.silu(y) * t

    t = Dual(torch.rand(3, 1), torch.ones(3, 1))
    with torch.autocast("cpu", torch.bfloat16):
        out = f(t)
    assert (seen["time"].dtype, seen["time"].tangent.dtype) == (torch.float32, torch.float32)
    assert (seen["product"].dtype, seen["product"].tangent.dtype) == (torch.bfloat16, torch.bfloat16)
    exact = f(t)
    torch.testing.assert_close((out.primal, out.tangent), (exact.primal, exact.tangent), rtol=0.03, atol=0.03)


SQUARE = torch.linspace(0.5, 1.5, 16, dtype=torch.float64).reshape(4, 4)
OPERATORS = {
    "d - t": lambda d: d - SQUARE,
    "t - d": lambda d: SQUARE - d,
    "2 - d": lambda d: 2 - d,
    "d / t": lambda d: d / SQUARE,
    "t / d": lambda d: SQUARE / d,
    "2 / d": lambda d: 2 / d,
    "d ** 2": lambda d: d**2,
    "d - d": lambda d: d - d.sin(),
    "d / d": lambda d: d / d.sin(),
    "d @ t": lambda d: d @ SQUARE,
    "t @ d": lambda d: SQUARE @ d,
    "matmul(d, t)": lambda d: torch.matmul(d, SQUARE),
    "matmul(t, d)": lambda d: torch.matmul(SQUARE, d),
    "matmul(d, d)": lambda d: torch.matmul(d, d.sin()),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_compiled_operators_keep_their_operands_in_order_or_refuse(name):
    """On square matrices, where exchanged operands would fit; torch's compiler exchanges those of `dual @ tensor`."""

    def derivative(x, dx):
        return jvp(OPERATORS[name], (x,), (dx,))

    x, dx = SQUARE + 0.3 * SQUARE.T, SQUARE.cos()
    torch._dynamo.reset()
    compiled = torch.compile(derivative, backend="aot_eager", fullgraph=True)
    if "@" in name:
        with pytest.raises(torch._dynamo.exc.Unsupported):
            compiled(x, dx)
    else:
        torch.testing.assert_close(compiled(x, dx), derivative(x, dx))
