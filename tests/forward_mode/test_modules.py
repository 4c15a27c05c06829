"""Modules of torch.nn as users write them run under forward mode without a fallback and equal torch's own."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import flowmaps as fm
from flowmaps import derivative
from flowmaps.forward_mode import dual
from flowmaps.forward_mode.tensor import DualTensor

F64 = torch.float64
CHANNELS, SIDE = 4, 6


class Tokens(nn.Module):
    """A module of sequences (B, L, C) applied to images."""

    def __init__(self, module: nn.Module, *others: object, **options: object) -> None:
        super().__init__()
        self.module, self.options = module, options

    def forward(self, x):
        tokens = x.flatten(2).mT
        attends = isinstance(self.module, nn.MultiheadAttention)
        y = self.module(tokens, tokens, tokens, **self.options)[0] if attends else self.module(tokens, **self.options)
        return y.mT.unflatten(2, x.shape[2:])


class Positions(nn.Module):
    """A table of positions, looked up inside the network."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(SIDE, CHANNELS)

    def forward(self, x):
        return x * self.table(torch.arange(x.shape[-1])).T[:, None, :]


class Rotary(nn.Module):
    """Rotary positions by complex numbers and by halves."""

    def forward(self, x):
        tokens = x.flatten(2).mT
        angles = torch.outer(torch.arange(tokens.shape[1], dtype=x.dtype), torch.tensor([1.0, 0.1], dtype=x.dtype))
        pairs = torch.view_as_complex(tokens.reshape(*tokens.shape[:-1], -1, 2).contiguous())
        turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).type_as(x)
        a, b = tokens.chunk(2, -1)
        return turned + torch.cat([-b, a], -1) * angles.sin().repeat(1, 2) + tokens * angles.cos().repeat(1, 2)


class Statistics(nn.Module):
    """What people write by hand: moments, gates by maxima, scatter and gather, masks."""

    def forward(self, x):
        x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True, unbiased=False) + 1e-3)
        x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-6) * nn.functional.normalize(x, dim=1)
        order = torch.arange(x.shape[1]).flip(0)
        x = torch.zeros_like(x).index_add(1, order, x) + x.index_select(1, order) * x.amax((2, 3), keepdim=True)
        x = torch.where(x > 0, x, 0.1 * x).masked_fill(torch.eye(x.shape[-1], dtype=torch.bool), 0.0)
        return x + torch.logsumexp(x, 1, keepdim=True) + x.topk(2, 1)[0].prod(1, keepdim=True)


def activations():
    inside = "CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU RReLU ReLU ReLU6"
    names = f"{inside} SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink Softmax2d".split()
    with_arguments = [nn.GLU(1), nn.Softmax(1), nn.Softmin(1), nn.LogSoftmax(1), nn.Threshold(0.1, 0.3)]
    return [getattr(nn, name)() for name in names] + with_arguments + [nn.ReLU(inplace=True), nn.PReLU(CHANNELS)]


def layers():
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, padding_mode="reflect")
    return [
        nn.BatchNorm2d(CHANNELS),
        nn.InstanceNorm2d(CHANNELS, affine=True),
        nn.GroupNorm(2, CHANNELS),
        nn.InstanceNorm2d(CHANNELS, track_running_stats=True),
        nn.LayerNorm([CHANNELS, SIDE, SIDE]),
        nn.RMSNorm(SIDE),
        nn.LocalResponseNorm(2),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveMaxPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.LPPool2d(2, 2),
        nn.ConvTranspose2d(CHANNELS, 2, 4, stride=2, padding=1),
        conv,
        nn.Conv2d(CHANNELS, 4, 3, groups=2),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.PixelShuffle(2),
        nn.PixelUnshuffle(2),
        nn.ReflectionPad2d(1),
        nn.ZeroPad2d(1),
        nn.Flatten(),
        nn.Unfold(2),
        nn.ChannelShuffle(2),
        nn.Dropout2d(0.5),
        weight_norm(nn.Conv2d(CHANNELS, 3, 1)),
        spectral_norm(nn.Conv2d(CHANNELS, 3, 1)),
        Positions(),
        Rotary(),
        Statistics(),
        Tokens(nn.MultiheadAttention(CHANNELS, 2, batch_first=True)),
        Tokens(nn.MultiheadAttention(CHANNELS, 2, batch_first=True), need_weights=False),
        Tokens(nn.TransformerEncoderLayer(CHANNELS, 2, 8, batch_first=True)),
        Tokens(nn.TransformerEncoderLayer(CHANNELS, 2, 8, batch_first=True, norm_first=True, activation="gelu")),
    ]


def module(index: int) -> nn.Module:
    torch.manual_seed(index)
    made = [*activations(), *layers()][index].double().eval()
    for buffer in made.buffers():
        if buffer.is_floating_point() and buffer.ndim == 1:  # running moments
            buffer.uniform_(0.5, 1.5)
    return made


def image(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, CHANNELS, SIDE, SIDE, dtype=F64, generator=generator)


NAMES = [f"{i} {type(made).__name__}" for i, made in enumerate([*activations(), *layers()])]
FLOAT32_IN_TORCH = "CELU", "Hardsigmoid"
"""Modules whose slope in torch has the digits of float32."""
WRONG_IN_TORCH = "LayerNorm", "GroupNorm", "InstanceNorm2d", "Tokens", "Hardsigmoid", "GLU"
"""Modules whose second derivative torch.func has wrong or lacks; `test_dual_fuzz` has them by differences."""


@pytest.fixture(autouse=True)
def _no_silent_fallback():
    dual._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no forward-mode rule")
        yield


def kind(index: int) -> str:
    return NAMES[index].split()[1]


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_module_equals_forward_mode_of_torch(index):
    net, x, dx = module(index), image(), image(1)
    expected = derivative.functorch(net, (x,), (dx,))
    rtol = 1e-7 if kind(index) in FLOAT32_IN_TORCH else 1e-10
    for mode in (derivative.jvp, derivative.detached):
        torch.testing.assert_close(mode(net, (x,), (dx,)), expected, rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("index", [i for i in range(len(NAMES)) if kind(i) not in WRONG_IN_TORCH])
def test_gradients_through_the_derivative_of_a_module_equal_those_of_torch(index):
    net, x, dx = module(index), image().requires_grad_(), image(1).requires_grad_()
    inputs = [x, dx, *net.parameters()]
    gradients = []
    for mode in (derivative.jvp, derivative.functorch):
        d = mode(lambda x: net(x + 0), (x,), (dx,))[1]
        weighted = (d * torch.linspace(-1, 1, d.numel(), dtype=F64).view_as(d)).sum()
        gradients.append(torch.autograd.grad(weighted, inputs, allow_unused=True, materialize_grads=True))
    rtol = 1e-6 if kind(index) in FLOAT32_IN_TORCH else 1e-8
    torch.testing.assert_close(*gradients, rtol=rtol, atol=1e-8 if kind(index) in FLOAT32_IN_TORCH else 1e-10)


@pytest.mark.parametrize("mode", [derivative.jvp, derivative.detached])
def test_batch_norm_in_training_counts_a_batch_once(mode):
    nets = [nn.BatchNorm2d(CHANNELS).double() for _ in range(2)]
    value = nets[0](image())
    ours, d = mode(nets[1], (image(),), (image(1),))
    torch.testing.assert_close(ours, value)
    torch.testing.assert_close(nets[1].state_dict(), nets[0].state_dict())
    without_moments = nn.BatchNorm2d(CHANNELS, track_running_stats=False).double()
    torch.testing.assert_close(d, derivative.functorch(without_moments, (image(),), (image(1),))[1])


@pytest.mark.parametrize(
    "made", [nn.Linear(8, 8), nn.Conv1d(4, 4, 1), Tokens(nn.MultiheadAttention(4, 2, batch_first=True))]
)
def test_autocast_to_half_precision(made):
    """Values are those of the module alone; tangents have their dtype and their accuracy."""
    x, dx = torch.randn(2, 2, 4, 8).unbind()
    run = made if not isinstance(made, Tokens) else lambda x: made(x[:, :, None])[:, :, 0]
    with torch.autocast("cpu", torch.bfloat16):
        value, d = derivative.jvp(run, (x,), (dx,))
        alone = run(x)
    exact = derivative.jvp(run, (x,), (dx,))[1]
    torch.testing.assert_close(value, alone)
    assert d.dtype == value.dtype == torch.bfloat16
    torch.testing.assert_close(d.float(), exact, rtol=0.05, atol=0.05)


class AsksForTensors(nn.Module):
    """A network that asks whether its time is a tensor, as diffusers' models do, and looks at its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CHANNELS + 2, 8), nn.SiLU(), nn.Linear(8, CHANNELS)).double()

    def forward(self, x, t):
        if not torch.is_tensor(t):
            t = torch.tensor([t], dtype=x.dtype)
        assert isinstance(x, torch.Tensor) and not isinstance(x, nn.Parameter)
        t = t * torch.ones(x.shape[0], dtype=t.dtype, device=t.device)
        angles = t[:, None].to(x.dtype) * torch.tensor([1.0, 3.0], dtype=x.dtype)[None, :]
        return self.layers(torch.cat([x, angles.sin()], dim=-1))


@pytest.mark.parametrize("mode", [derivative.jvp, derivative.detached])
def test_networks_that_ask_for_tensors_are_answered(mode):
    torch.manual_seed(0)
    net, x, t = AsksForTensors(), torch.randn(3, CHANNELS, dtype=F64), torch.rand(3, dtype=F64)
    torch.testing.assert_close(mode(net, (x, t), (x.cos(), 1)), derivative.functorch(net, (x, t), (x.cos(), 1)))


def test_what_would_pass_the_rules_by_is_refused():
    x = DualTensor(torch.ones(3), torch.ones(3))
    assert isinstance(x, torch.Tensor) and (x.shape, x.dtype, x.device.type) == ((3,), torch.float32, "cpu")
    for passing in (lambda: torch.tensor(x), lambda: torch.zeros(3).new_tensor(x), lambda: torch.full((2,), x[0])):
        with pytest.raises(TypeError, match="below them"):
            passing()
    with pytest.raises(TypeError, match="in place"):
        x.data = torch.zeros(3)
    with pytest.raises(TypeError, match="in place"):
        torch.sin(x, out=torch.zeros(3))


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("made", [torch.jit.script, lambda net: torch.jit.trace(net, torch.ones(1, 2))])
def test_scripted_networks_are_refused(made):
    """torch's forward mode of a scripted network is wrong from its second call on."""
    with pytest.raises(TypeError, match="torch.jit"):
        derivative.jvp(made(nn.Sequential(nn.Linear(2, 2), nn.SiLU())), (torch.ones(1, 2),), (torch.ones(1, 2),))


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("whole", [True, False])
def test_networks_with_a_scripted_part_are_not_trained(whole):
    """torch does not copy one, which an average of its weights needs."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.jit.script(nn.Linear(2, 2))

        def forward(self, x, s, t):
            return self.inner(x)

    network = torch.jit.trace(fm.networks.MLP(2, 8, 1), (torch.ones(4, 2), torch.ones(4), torch.ones(4)))
    with pytest.raises(TypeError, match="torch cannot copy a TorchScript module"):
        fm.train(fm.FlowMap(network if whole else Two()), "shortcut", torch.randn(40, 2), steps=1)


@pytest.mark.slow
def test_compiled_modules_have_the_same_derivative_without_a_graph_break():
    torch.manual_seed(0)
    net = nn.Sequential(Statistics(), nn.BatchNorm2d(CHANNELS), nn.PReLU(), nn.MaxPool2d(2), Rotary(), nn.Softsign())
    net = net.double().eval()

    def run(x, dx):
        return derivative.jvp(net, (x,), (dx,))

    torch._dynamo.reset()
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(image(), image(1)), run(image(), image(1)))
