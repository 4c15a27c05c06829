"""Students of the models of diffusers: the teacher exactly, two times in the right layers, tamed derivatives."""

import copy
import inspect
import json

import diffusers
import pytest
import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn

import flowmaps as fm
from flowmaps import derivative, students
from flowmaps.integrations.diffusers import checkpoint, time_layers
from flowmaps.integrations.diffusers.networks import DiffusersNetwork, forget_folder
from flowmaps.pretrained import Affine, Reading
from flowmaps.serialise import build, describe
from tests.integrations.test_networks import CASES, drawn

KINDS = ["unet of classes", "sdxl", "dit", "sd3", "flux dev", "pixart of sizes", "wan"]
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
DDPM = fm.path.Discrete(tuple((1 - BETAS).cumprod(0).tolist()))
READINGS = [
    Reading(time=Affine(1000.0)),
    Reading(fm.path.noise, DDPM, known=(1 / 1000, 1.0), time=Affine(1000.0, -1.0)),
]
S, T = torch.tensor([0.31, 0.73]), torch.tensor([0.17, 0.52])


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    """(network, x, condition)."""
    make, condition, _ = CASES[request.param]
    folder = make(tmp_path_factory.mktemp("pipeline"))
    part = "unet" if (folder / "unet").is_dir() else "transformer"
    config = json.loads((folder / part / "config.json").read_text())
    network = DiffusersNetwork(config["_class_name"], config, str(folder), part)
    forget_folder(network)
    return network, drawn(2, network.channels, *((3,) if "Wan" in network.class_name else ()), 8, 8), condition


def with_all_weights(flow):
    """The student after some training, as it were."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in flow.network.named_parameters():
            if not name.startswith("network."):
                weight.add_(0.3 * torch.randn_like(weight))
    return flow


@pytest.mark.parametrize(
    ("times", "reading", "dtype"),
    [
        (students.added, 1, torch.float32),
        (students.decoupled, 0, torch.float64),
        (students.source_only, 1, torch.float32),
    ],
)
@torch.no_grad()
def test_on_the_diagonal_it_is_the_teacher_bit_by_bit(case, times, reading, dtype):
    """Weights frozen as the teacher's, for torch computes with some that are trained by other kernels."""
    network, x, condition = case
    teacher = fm.Pretrained(copy.deepcopy(network).to(dtype), READINGS[reading]).given(**condition)
    flow = fm.student(teacher, times, told=("guidance_from",))
    assert flow.network.tame is not None
    flow = flow.requires_grad_(False).unlimited().given(guidance_from=0.5)
    x, s, t = x.to(dtype), S.to(dtype), T.to(dtype)
    assert torch.equal(flow.velocity(x, s), teacher.velocity(x, s))
    away = flow.average_velocity(x, s, t)
    assert torch.equal(away, teacher.velocity(x, s)) == (times is not students.decoupled)


def watched(network):
    """What the layers are given of the time, and what is read of it elsewhere, filled by each call."""
    found, seen = network.flow_map_places, {}
    layers = found.layers_of(network)
    if not found.argument:
        layers = [layer.norm1.emb.timestep_embedder for layer in layers]
        (*_, last) = [network.get_submodule("model.proj_out_1")]
        last.register_forward_pre_hook(lambda m, args: seen.__setitem__("head", args[0]))

    def note(i, layer, args, named, output=None):
        if output is None:
            taken = list(inspect.signature(layer.forward).parameters)
            named = dict(zip(taken, args, strict=False)) | named
            output = next(named[name] for name in found.argument if name in named)
        seen.setdefault(i, output)

    for i, layer in enumerate(layers):
        if found.argument:
            layer.register_forward_pre_hook(lambda m, a, kw, i=i: note(i, m, a, kw), with_kwargs=True)
        else:
            layer.register_forward_hook(lambda m, a, output, i=i: note(i, m, a, {}, output))
    if found.head:
        name, member = found.head
        network.get_submodule(name).register_forward_hook(
            lambda m, a, output: seen.__setitem__("head", output[member])
        )  # fmt: skip
    return seen


@torch.no_grad()
def test_late_layers_see_the_target(case):
    """Each early layer is given what the teacher gives it at s, each late one, and the output, what it gives at t."""
    network, x, condition = case
    plain = copy.deepcopy(network)
    flow = fm.student(fm.Pretrained(copy.deepcopy(network), READINGS[0]), students.decoupled).given(**condition)
    teachers, students_ = watched(plain), watched(flow.network.network)
    at = []
    for time in (S, T):
        teachers.clear()
        plain(x, 1000 * time, **condition)
        at.append(dict(teachers))
    flow.average_velocity(x, S, T)
    depth = flow.network.depth
    early = students.decoupled(0.0, 0.0, depth)[0][1]
    assert 0 < early < depth
    for place, given in students_.items():
        late = place == "head" or place >= early
        assert torch.allclose(given, at[late][place], rtol=1e-4, atol=1e-4), place
        assert not torch.allclose(given, at[not late][place], rtol=1e-2, atol=1e-2), place


def test_derivatives_and_gradients_where_layers_are_computed_again(case):
    """The same value, derivative and gradients, and the derivative of torch's own forward mode."""
    network, x, condition = case
    teacher = fm.Pretrained(copy.deepcopy(network).double(), READINGS[0])
    flow = with_all_weights(fm.student(teacher, students.decoupled, told=("guidance_from",)))
    bound, z, s, t = flow.given(**condition, guidance_from=0.5), x.double(), S.double(), T.double()

    def everything():
        flow.zero_grad()
        value, d = derivative.jvp(bound.average_velocity, (z, s, t), (z.cos(), 1, 0.5))
        (value.square().sum() + d.square().mean()).backward()
        return value.detach(), d.detach(), [w.grad.clone() for w in flow.parameters() if w.grad is not None]

    value, d, gradients = everything()
    assert flow.network.new.outer.weight.grad.norm() > 0 and flow.network.tame[0].change.grad.norm() > 0
    checkpoint(flow)
    value_again, d_again, gradients_again = everything()
    assert torch.allclose(value, value_again, rtol=1e-10) and torch.allclose(d, d_again, rtol=1e-10)
    assert len(gradients) == len(gradients_again) > 10
    for a, b in zip(gradients, gradients_again, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)
    if isinstance(network.model, diffusers.UNet2DModel):  # torch's forward mode fails in its attention
        return
    _, expected = derivative.functorch(bound.average_velocity, (z, s, t), (z.cos(), 1, 0.5))
    assert (d - expected).norm() < 1e-6 * expected.norm()


@torch.no_grad()
def test_it_is_described_and_copied(case):
    network, x, condition = case
    flow = with_all_weights(fm.student(fm.Pretrained(copy.deepcopy(network), READINGS[1]), students.added))
    again = build(json.loads(json.dumps(describe(flow)))).eval()
    again.load_state_dict(flow.state_dict())
    expected = flow.given(**condition).average_velocity(x, S, T)
    for other in (copy.deepcopy(flow), copy.deepcopy(again)):
        assert torch.allclose(other.given(**condition).average_velocity(x, S, T), expected, rtol=1e-4, atol=1e-5)
    names = {name.removeprefix("network.") for name in flow.network.state_dict() if name.startswith("network.")}
    assert names == set(network.state_dict())


class Velocity(nn.Module):
    """x + what it knows of the time, by the embedding of diffusers."""

    flow_map_places = students.TimeLayers("embedding", features="sines")

    def __init__(self, width):
        super().__init__()
        self.sines, self.embedding = Timesteps(256, True, 0), TimestepEmbedding(256, width)

    def forward(self, x, k):
        return x + self.embedding(self.sines(k))


@torch.no_grad()
def known_in_time(width=128):
    """One that has learned a smooth function g of the 1000 steps, and knows nothing between them; and g."""
    torch.manual_seed(0)
    net, i = Velocity(width), torch.arange(width)
    steps = torch.arange(1000.0)
    embedding = net.embedding
    hidden = embedding.act(embedding.linear_1(net.sines(steps))).double()
    hidden = torch.cat([hidden, torch.ones(1000, 1, dtype=hidden.dtype)], dim=1)

    def g(t):
        return ((1 + i % 5) * t[:, None] + i).sin()

    penalised = hidden.T @ hidden + 1e-3 * torch.eye(hidden.shape[1], dtype=hidden.dtype)
    solved = torch.linalg.solve(penalised, hidden.T @ g(steps.double() / 1000)).float()
    embedding.linear_2.weight.copy_(solved[:-1].T)
    embedding.linear_2.bias.copy_(solved[-1])
    return net, g


@torch.no_grad()
def test_the_derivative_of_what_a_network_has_learned_of_time():
    net, g = known_in_time()
    teacher = fm.teacher(net, time=Affine(1000.0))
    tamed, raw = fm.student(teacher), fm.student(teacher, tame=False)
    x, s = torch.zeros(500, 128), torch.linspace(0.02, 0.98, 500)
    assert torch.equal(tamed.velocity(x, s), teacher.velocity(x, s))
    _, true = derivative.jvp(g, (s,), (1,))
    _, smooth = derivative.jvp(tamed.average_velocity, (x, s, s), (0, 1, 0))
    _, rough = derivative.jvp(raw.average_velocity, (x, s, s), (0, 1, 0))
    assert rough.norm() > 5 * true.norm()
    assert (smooth - true).norm() < 0.25 * true.norm()
    assert 0.9 < smooth.norm() / true.norm() < 1.1


def test_errors():
    with pytest.raises(ValueError, match="the time layers of Linear are not known"):
        time_layers.time_layers(nn.Linear(1, 1))
    with pytest.raises(TypeError, match=r"fm\.student"):
        checkpoint(fm.FlowMap(fm.networks.MLP(2)))
    ours = fm.student(fm.FlowMap(fm.networks.MLP(2, width=4, depth=2, times=fm.networks.source_only)))
    with pytest.raises(ValueError, match="no model of diffusers"):
        checkpoint(ours)
