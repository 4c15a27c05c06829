"""Students: the teacher's velocity exactly on the diagonal, two times off it, and derivatives that are those of V."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flowmaps as fm
from flowmaps import derivative, networks, students
from flowmaps.path import expand
from flowmaps.pretrained import Affine
from flowmaps.serialise import build, current, describe
from flowmaps.students.tame import phi
from flowmaps.training import train

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8, "log_every": 1}
TIMES = {
    "added": students.added,
    "decoupled": students.decoupled,
    "source": students.source_only,
}
OURS = {
    "mlp": lambda **kw: networks.MLP(3, width=8, depth=3, embedding=8, **kw),
    "concat": lambda **kw: networks.ConcatMLP(3, width=8, depth=1, **kw),
    "dit": lambda **kw: networks.DiT((1, 4, 4), width=8, depth=3, heads=2, **kw),
    "unet": lambda **kw: networks.UNet((1, 8, 8), width=4, multipliers=(1, 2), blocks=1, **kw),
    "in a basis": lambda **kw: networks.InBasis(networks.MLP(3, width=8, depth=2, **kw), torch.eye(3).flip(0)),
}


def randomised(module, scale=0.1):
    """All weights random, those too that start at zero."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(scale * torch.randn_like(weight))
    return module


class Sines(nn.Module):
    """sin and cos of w_i t for frequencies w_i."""

    def __init__(self, *frequencies):
        super().__init__()
        self.register_buffer("w", torch.tensor(frequencies))

    def forward(self, t):
        return torch.cat([(t[:, None] * self.w).sin(), (t[:, None] * self.w).cos()], dim=1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.x, self.e = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, h, skip=None, emb=None):
        return h + torch.tanh(self.x(h) + self.e(emb))


class Plain(nn.Module):
    """A module of somebody else: times in 0 .. 1000, features and embedding apart, a class, layers by keyword."""

    flow_map_places = students.TimeLayers("time", layers="layers.*", argument="emb", features="sines")

    def __init__(self, sines=(0.002, 0.01, 0.02), rough=()):
        super().__init__()
        self.sines, self.time = Sines(*sines, *rough), nn.Linear(2 * len((*sines, *rough)), 6)
        self.label = nn.Embedding(4, 6)
        self.input, self.output = nn.Linear(3, 6), nn.Linear(6, 3)
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x, k, label=None):
        emb = self.time(self.sines(k))
        emb = emb if label is None else emb + self.label(label)
        h = self.input(x)
        for layer in self.layers:
            h = layer(h, emb=emb)
        return self.output(h)


class Scaled(nn.Module):
    """Another one: it multiplies the time by itself, its embedding takes a column, its layers take it by position."""

    flow_map_places = students.TimeLayers("embed", layers=("blocks.*", "last"), argument=("emb",), scale=5.0)

    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, 6), nn.SiLU(), nn.Linear(6, 6))
        self.input, self.blocks, self.last = nn.Linear(3, 6), nn.ModuleList(Layer() for _ in range(2)), Layer()

    def forward(self, x, t):
        emb = self.embed(t[:, None] * 5.0)
        h = self.input(x)
        for block in self.blocks:
            h = block(h, None, emb)
        return self.last(h, emb=emb)[:, :3] + x


class Inside(nn.Module):
    """An embedding of its own in each layer, a projection of one, and one that the last layer reads by itself."""

    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.x = nn.Linear(1, 6), nn.Linear(6, 6)

        def forward(self, h, t):
            return h + torch.tanh(self.x(h)) * self.embed(t[:, None])

    def __init__(self):
        super().__init__()
        self.input, self.cells = nn.Linear(3, 6), nn.ModuleList(self.Cell() for _ in range(3))

    def forward(self, x, t):
        h = self.input(x)
        for cell in self.cells:
            h = cell(h, t)
        return (h * self.cells[0].embed(t[:, None]))[:, :3]


class Projected(nn.Module):
    """(projection of the embedding, embedding) from one part: the layers get the first, the output reads the second."""

    class Conditioner(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.act, self.project = nn.Linear(1, 6), nn.SiLU(), nn.Linear(6, 6)

        def forward(self, t):
            emb = self.embed(t[:, None])
            return self.project(self.act(emb)), emb

    def __init__(self):
        super().__init__()
        self.condition, self.input = self.Conditioner(), nn.Linear(3, 6)
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, x, t):
        emb, last = self.condition(t)
        h = self.input(x)
        for layer in self.layers:
            h = layer(h, emb=emb)
        return (h * last)[:, :3]


PLACES = {
    Inside: students.TimeLayers("cells.*.embed", layers="cells.*", argument=""),
    Projected: students.TimeLayers(
        "condition.embed", layers="layers.*", argument="emb", projection=("condition.act", "condition.project"),
        head=("condition", 1),
    ),
}  # fmt: skip
THEIRS = {
    "plain": lambda: fm.teacher(randomised(Plain()), time=Affine(1000.0)),
    "rough": lambda: fm.teacher(randomised(Plain(rough=(0.5, 1.0))), time=Affine(1000.0)),
    "noise": lambda: fm.teacher(
        randomised(Plain()), fm.path.noise, fm.path.trigonometric, known=(0.0, 0.99), time=Affine(1000.0)
    ),
    "scaled": lambda: fm.teacher(randomised(Scaled())),
    "inside": lambda: fm.teacher(randomised(Inside())),
    "projected": lambda: fm.teacher(randomised(Projected())),
}


def made(name, dtype=torch.float64):
    """A teacher, and x for it."""
    if name in THEIRS:
        teacher = THEIRS[name]().to(dtype)
        return teacher, torch.randn(4, 3, dtype=dtype)
    network = randomised(OURS[name](times=networks.source_only)).to(dtype)
    shape = getattr(network, "network", network).shape
    return fm.FlowMap(network), torch.randn(4, *shape, dtype=dtype)


def student_of(teacher, times=students.added, **options):
    places = PLACES.get(type(getattr(teacher, "network", None)))
    return fm.student(teacher, times, places=places, **options)


def possible(name, times):
    return not (name == "concat" and isinstance(times, networks.Decoupled))


def times_for(x):
    return torch.rand(len(x), dtype=x.dtype), torch.rand(len(x), dtype=x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_on_the_diagonal_it_is_the_teacher_bit_by_bit(name, times, dtype):
    if not possible(name, TIMES[times]):
        return
    teacher, x = made(name, dtype)
    s, t = times_for(x)
    for told in ((), ("guidance", "guidance_from"))[: 1 if dtype == torch.float32 else 2]:
        flow = student_of(teacher, TIMES[times], told=told).unlimited()
        given = {"guidance": 1 + 3 * torch.rand(4), "guidance_from": 0.5} if told else {}
        assert torch.equal(flow.given(**given).velocity(x, s), teacher.velocity(x, s))
        away = flow.given(**given).average_velocity(x, s, t)
        if times == "decoupled":
            assert not torch.allclose(away, teacher.velocity(x, s), rtol=1e-4)
        else:
            assert torch.equal(away, teacher.velocity(x, s))


@pytest.mark.parametrize("base", [networks.pair, networks.gap, networks.decoupled])
def test_of_a_flow_map_its_velocity_is_kept(base):
    """Also of one that was trained by flow matching with two times, of which it only knows the diagonal."""
    teacher = fm.FlowMap(randomised(OURS["mlp"](times=base, classes=3)), fm.Endpoint()).given(
        label=torch.tensor([0, 2])
    )
    x, s, t = torch.randn(2, 3), torch.rand(2), torch.rand(2)
    flow = fm.student(teacher)
    assert torch.equal(flow.velocity(x, s), teacher.velocity(x, s))
    value = teacher.network(x, s, s, **teacher.condition)
    expected = fm.Endpoint()(value, x, expand(s, x), expand(t, x), teacher.path)
    assert torch.equal(flow.average_velocity(x, s, t), expected)


def test_late_layers_see_the_target():
    """Of layers that are given the embedding, the early ones get that of s, the late ones that of t."""
    teacher, x = made("plain")
    label = torch.tensor([0, 1, 2, 3])
    flow = fm.student(teacher, students.Decoupled(0.5), tame=False).given(label=label)
    s, t = times_for(x)
    net = teacher.network
    at_s, at_t = (net.time(net.sines(1000 * u)) + net.label(label) for u in (s, t))
    h = net.input(x)
    for layer, emb in zip(net.layers, (at_s, at_s, at_t), strict=True):
        h = layer(h, emb=emb)
    assert torch.allclose(flow.average_velocity(x, s, t), net.output(h), rtol=1e-12)


def test_late_layers_see_the_target_where_each_has_its_embedding_and_where_it_is_projected():
    teacher, x = made("inside")
    s, t = times_for(x)
    net = teacher.network
    h = net.input(x)
    for cell, time in zip(net.cells, (s, s, t), strict=True):
        h = cell(h, time)
    expected = (h * net.cells[0].embed(t[:, None]))[:, :3]
    assert torch.allclose(student_of(teacher, students.decoupled).average_velocity(x, s, t), expected, rtol=1e-12)

    teacher, x = made("projected")
    net = teacher.network
    (early, _), (late, last) = net.condition(s), net.condition(t)
    h = net.layers[1](net.layers[0](net.input(x), emb=early), emb=late)
    expected = (h * last)[:, :3]
    assert torch.allclose(student_of(teacher, students.decoupled).average_velocity(x, s, t), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["dit", "rough"])
def test_the_second_time_and_what_is_told_are_learned(name):
    """Zero at first, with a gradient; V depends on t and on the guidance after one step."""
    teacher, x = made(name)
    flow = fm.student(teacher, told=("guidance",))
    s, t = times_for(x)
    outer = flow.network.new.outer
    assert not outer.weight.any() and not outer.bias.any()
    optimizer = torch.optim.SGD([w for w in flow.parameters() if w.requires_grad], 0.1)
    bound = flow.given(guidance=3.0)
    (bound.average_velocity(x, s, t) ** 2).mean().backward()
    assert outer.weight.grad.norm() > 0
    optimizer.step()
    with torch.no_grad():
        V = bound.average_velocity(x, s, t)
        assert (V - bound.average_velocity(x, s, 1 - t)).norm() > 1e-6
        assert (V - flow.given(guidance=1.0).average_velocity(x, s, t)).norm() > 1e-6
        assert not torch.equal(bound.velocity(x, s), teacher.velocity(x, s))
    assert all(not weight.requires_grad for weight in teacher.network.parameters()) or name == "dit"


def test_decoupled_needs_no_new_weights_and_names_stay():
    for name in ("unet", "plain"):
        teacher, _ = made(name)
        inner = "network.network." if name == "unet" else "network."
        names = {inner + key for key in teacher.network.state_dict()}
        assert set(fm.student(teacher, students.decoupled).network.state_dict()) == names
        more = set(fm.student(teacher).network.state_dict()) - names
        assert more == {f"new.{part}.{kind}" for part in ("inner", "outer") for kind in ("weight", "bias")}


def with_all_weights(flow):
    """The student after some training, as it were."""
    return flow.around(randomised(copy.deepcopy(flow.network), 0.3))


@pytest.mark.parametrize("times", ["added", "decoupled"])
@pytest.mark.parametrize("name", ["mlp", "unet", "noise", "inside", "projected"])
def test_derivatives_agree(name, times):
    teacher, x = made(name)
    flow = with_all_weights(student_of(teacher, TIMES[times], tame=False))
    s, t = times_for(x)
    s, t = expand(0.1 + 0.8 * s, x), expand(0.1 + 0.8 * t, x)
    direction = (x.cos(), 1, 0.5)
    _, expected = derivative.finite_difference(1e-5)(flow.average_velocity, (x, s, t), direction)
    for mode in (derivative.jvp, derivative.detached, derivative.functorch):
        value, d = mode(flow.average_velocity, (x, s, t), direction)
        assert torch.allclose(value, flow.average_velocity(x, s, t), rtol=1e-12)
        assert (d - expected).norm() < 1e-6 * expected.norm()


def test_gradients_through_the_derivative():
    teacher, x = made("rough")
    flow = with_all_weights(fm.student(teacher, students.decoupled, told=("guidance",))).given(guidance=2.0)
    s, t = (expand(time, x) for time in times_for(x))
    weights = [w for w in flow.parameters() if w.requires_grad]

    def gradient(mode):
        _, d = mode(flow.average_velocity, (x, s, t), (x.cos(), 1, 1))
        return torch.autograd.grad((d**2).mean(), weights, allow_unused=True, materialize_grads=True)

    for a, b in zip(gradient(derivative.jvp), gradient(derivative.functorch), strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-12)


METHODS = {
    "meanflow": fm.methods.meanflow,
    "lsd": fm.methods.lsd,
    "shortcut": fm.methods.shortcut,
    "ayf_emd": fm.methods.ayf_emd,
}


@pytest.mark.parametrize("times", ["added", "decoupled"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_train_it(method, times):
    teacher, _ = made("rough", torch.float32)
    flow = with_all_weights(fm.student(teacher, TIMES[times]))
    options = {"teacher": teacher} if method == "ayf_emd" else {}
    loss = METHODS[method](**options)(flow, torch.randn(8, 3))
    loss.value.backward()
    gradients = [w.grad for w in flow.parameters() if w.requires_grad and w.grad is not None]
    assert all(g.isfinite().all() for g in gradients) and sum(g.norm() for g in gradients) > 0
    assert all(w.grad is None for w in teacher.parameters())


@pytest.mark.slow
def test_compiled_it_is_one_graph():
    teacher, x = made("rough")
    flow = with_all_weights(fm.student(teacher, students.decoupled, told=("guidance",))).given(guidance=3.0)
    s, t = times_for(x)

    def derived(x, s, t):
        return derivative.jvp(flow.average_velocity, (x, s, t), (x, 1, 0))

    torch._dynamo.reset()
    compiled = torch.compile(derived, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, s, t), derived(x, s, t))


@pytest.mark.parametrize("method", ["cd", "ect", "ict"])
def test_partial_students_are_consistency_models(method):
    teacher, x = made("plain", torch.float32)
    flow = fm.student(teacher, students.source_only)
    assert flow.only_target == 0.0
    with pytest.raises(ValueError, match="partial"):
        flow(x, 0.7, 0.3)
    options = {"teacher": teacher} if method == "cd" else {}
    loss = getattr(fm.methods, method)(**options)(flow, torch.randn(8, 3))
    loss.value.backward()
    assert flow.network.network.output.weight.grad.isfinite().all()


def test_a_copy_is_independent():
    """As the average of the weights is one; and as constants (velocity.frozen) the weights get no gradient."""
    teacher, x = made("rough")
    flow = with_all_weights(fm.student(teacher))
    s, t = times_for(x)
    before = flow.average_velocity(x, s, t)
    other = copy.deepcopy(flow)
    randomised(other.network)
    assert torch.equal(flow.average_velocity(x, s, t), before)
    assert not torch.equal(other.average_velocity(x, s, t), before)
    assert torch.equal(copy.deepcopy(flow).average_velocity(x, s, t), before)

    x = x.requires_grad_()
    constant = fm.velocity.frozen(flow, None).average_velocity(x, s, t)
    assert torch.equal(constant, before)
    constant.sum().backward()
    assert x.grad.norm() > 0 and all(w.grad is None for w in flow.parameters())


def test_the_network_by_itself_does_what_it_did():
    teacher, x = made("rough")
    flow = with_all_weights(fm.student(teacher, students.decoupled, told=("guidance",)))
    network = flow.network.network
    plain = randomised(Plain(rough=(0.5, 1.0))).double()
    plain.load_state_dict(network.state_dict())
    k = torch.rand(4, dtype=x.dtype) * 1000
    assert torch.equal(network(x, k), plain(x, k))


class Checkpointing(Plain):
    """It computes its layers again in the backward pass, by a function that can be replaced."""

    again = staticmethod(lambda layer, *inputs: torch.utils.checkpoint.checkpoint(layer, *inputs, use_reentrant=False))

    def forward(self, x, k):
        emb, h = self.time(self.sines(k)), self.input(x)
        for layer in self.layers:
            h = self.again(layer, h, None, emb)
        return self.output(h)


def test_layers_computed_again_see_their_times():
    torch.manual_seed(1)
    teacher = fm.teacher(randomised(Checkpointing()).double(), time=Affine(1000.0))
    flow = fm.student(teacher, students.decoupled)
    x = torch.randn(4, 3, dtype=torch.float64)
    s, t = times_for(x)

    def gradient(again):
        flow.zero_grad()
        flow.network.network.again = again
        value, d = derivative.jvp(flow.average_velocity, (x, s, t), (1, 1, 0))
        (value**2 + d**2).sum().backward()
        return [w.grad.clone() for w in flow.parameters() if w.grad is not None]

    expected = gradient(lambda layer, *inputs: layer(*inputs))
    for a, b in zip(gradient(flow.network.checkpointed), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
    flow.network.network.again = Checkpointing.again
    with pytest.raises(RuntimeError, match="Student.checkpointed"):
        flow.average_velocity(x, s, t).sum().backward()


# --- the derivative of a rough embedding ------------------------------------------------------------------------------


def rough_and_smooth():
    """Two teachers in float64 whose embeddings differ by waves of frequency 500 and 1000, the second without them."""
    torch.manual_seed(0)
    rough = Plain(rough=(0.5, 1.0)).double()
    smooth = copy.deepcopy(rough)
    with torch.no_grad():
        rough.time.weight[:, [3, 4, 8, 9]] *= 0.5
        smooth.time.weight[:, [3, 4, 8, 9]] = 0
    return tuple(fm.teacher(net, time=Affine(1000.0)) for net in (rough, smooth))


def slope(flow, x, s):
    return derivative.jvp(flow.average_velocity, (x, s, s), (0, 1, 0))[1]


def test_tamed_the_derivative_is_that_of_the_smooth_part():
    rough, smooth = rough_and_smooth()
    x, s = torch.randn(64, 3, dtype=torch.float64), torch.linspace(0.02, 0.98, 64, dtype=torch.float64)
    expected = slope(fm.student(smooth, tame=False), x, s)
    raw = slope(fm.student(rough, tame=False), x, s)
    tamed = fm.student(rough)
    assert torch.equal(tamed.velocity(x, s), rough.velocity(x, s))
    assert raw.norm() > 10 * expected.norm()
    assert (slope(tamed, x, s) - expected).norm() < 0.1 * expected.norm()
    for mode in (derivative.detached, derivative.functorch):
        _, d = mode(tamed.average_velocity, (x, s, s), (0, 1, 0))
        assert torch.allclose(d, slope(tamed, x, s), rtol=1e-10)


def test_a_smooth_embedding_is_left_alone():
    _, smooth = rough_and_smooth()
    flow = fm.student(smooth)
    assert flow.network.tame is None and all(weight.requires_grad for weight in flow.parameters())


def test_what_a_tamed_embedding_learns_is_smooth():
    """The old embedding stays; the values are E + D phi, and the derivative is that of (C + D) phi."""
    rough, _ = rough_and_smooth()
    student = fm.student(rough).network
    embedding = student.network.time
    assert not any(weight.requires_grad for weight in embedding.parameters())
    (tame,) = student.tame
    with torch.no_grad():
        tame.change.normal_()
    seen = []
    student.network.layers[0].register_forward_pre_hook(lambda m, a, kw: seen.append(kw["emb"]), with_kwargs=True)
    s = torch.linspace(0.1, 0.9, 4, dtype=torch.float64)

    def embedded(s):
        student(torch.zeros(4, 3, dtype=torch.float64), s, s)
        return seen.pop()

    value, d = derivative.jvp(embedded, (s,), (1,))
    assert torch.allclose(value, embedding(student.network.sines(1000 * s)) + F.linear(phi(s), tame.change))
    expected = derivative.jvp(lambda s: F.linear(phi(s), tame.change + tame.fitted), (s,), (1,))[1]
    assert torch.allclose(d, expected, rtol=1e-10)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_run_is_loaded_without_arguments(tmp_path):
    teacher = fm.FlowMap(networks.MLP(2, width=8, depth=2, times=networks.source_only))
    flow = fm.student(teacher, told=("guidance",))
    assert describe(build(describe(flow))) == describe(flow)
    data = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))
    for _ in train(fm.student(teacher), fm.methods.meanflow(), data, steps=3, out=tmp_path / "run", **QUIET):
        pass
    loaded = fm.load(tmp_path / "run", ema=False)
    x, s, t = torch.randn(4, 2), torch.rand(4), torch.rand(4)
    assert isinstance(loaded.network, students.Student)
    assert not torch.equal(loaded.velocity(x, s), teacher.velocity(x, s))
    assert loaded.network.new.outer.weight.any()
    assert loaded.average_velocity(x, s, t).shape == x.shape


def test_a_run_with_somebody_elses_network_is_loaded_into_a_new_student(tmp_path):
    teacher, x = made("rough", torch.float32)
    flow = fm.student(teacher)
    data = fm.exact.Gaussian(torch.zeros(3), torch.ones(3))
    for _ in train(flow, fm.methods.meanflow(), data, steps=2, out=tmp_path / "run", ema=0.0, **QUIET):
        pass
    with pytest.raises(ValueError, match="network="):
        fm.load(tmp_path / "run")
    torch.manual_seed(5)
    fresh = fm.student(fm.teacher(Plain(rough=(0.5, 1.0)), time=Affine(1000.0)))
    loaded = fm.load(tmp_path / "run", network=fresh, ema=False)
    s, t = times_for(x)
    assert torch.equal(loaded.average_velocity(x, s, t), flow.average_velocity(x, s, t))
    assert torch.equal(slope(loaded, x, s), slope(flow, x, s))


def test_a_tamed_student_of_ours_is_described():
    network = OURS["mlp"](times=networks.source_only, features=networks.Fourier(8, 1.0, 2000.0))
    flow = fm.student(fm.FlowMap(network), students.decoupled)
    assert flow.network.tame is not None
    again = build(describe(flow))
    again.load_state_dict(flow.state_dict())
    x, s, t = torch.randn(4, 3), torch.rand(4), torch.rand(4)
    assert torch.equal(again.average_velocity(x, s, t), flow.average_velocity(x, s, t))
    assert torch.equal(slope(again, x, s), slope(flow, x, s))


# --- errors -----------------------------------------------------------------------------------------------------------


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.time_embedding, self.linear = nn.Linear(1, 4), nn.Linear(3, 3)

    def forward(self, x, t):
        return self.linear(x)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (None, r"set its attribute flow_map_places.*time_embedding, linear"),
        (students.TimeLayers("time_embeding"), r"no part 'time_embeding' \(did you mean time_embedding"),
        (students.TimeLayers("linear"), r"cannot be called on times \(B,\).*features"),
        (students.TimeLayers("time_embedding", layers="layers.*"), r"no part 'layers\.\*'"),
    ],
)
def test_places_that_are_not_there(places, message):
    with pytest.raises(ValueError, match=message):
        fm.student(fm.teacher(Unknown()), places=places)


def test_layers_that_do_not_take_the_embedding():
    teacher, _ = made("plain")
    for places, message in (
        (students.TimeLayers("time", features="sines"), "at least 2 layers"),
        (students.TimeLayers("time", features="sines", layers="layers.*", argument="temb"), "takes no argument 'temb'"),
    ):
        with pytest.raises(ValueError, match=message):
            fm.student(teacher, students.decoupled, places=places)


def test_errors_of_teachers_times_and_conditions():
    teacher, x = made("plain")
    with pytest.raises(TypeError, match="weights of a network, but the teacher is a Gaussian"):
        fm.student(fm.exact.Gaussian(torch.zeros(2), torch.ones(2)))
    with pytest.raises(ValueError, match="no weights to start"):
        fm.student(fm.teacher(lambda x, t: x))
    with pytest.raises(ValueError, match="partial"):
        fm.student(fm.FlowMap(networks.MLP(2), only_target=0.0))
    for times in (networks.gap_only, networks.none, networks.expanded):
        with pytest.raises(ValueError, match="s"):
            fm.student(teacher, times)
    flow = fm.student(teacher, told=("guidance", "warmth"))
    with pytest.raises(ValueError, match=r"flow\.given\(warmth="):
        flow.velocity(x, 0.5)
    flow = flow.given(warmth=0.3)
    with pytest.raises(ValueError, match="one for each of the 4 rows"):
        flow.given(guidance=torch.ones(3)).velocity(x, 0.5)


def test_guidance_is_seen_by_its_inverse():
    """1 - 1/omega: 1 means none, and so does a call without it."""
    teacher, x = made("plain")
    flow = with_all_weights(fm.student(teacher, students.source_only, told=("guidance",), tame=False)).unlimited()
    new = flow.network.new
    expected = new((torch.full((4,), 1 - 1 / 4, dtype=x.dtype),))
    seen = []
    flow.network.network.layers[0].register_forward_pre_hook(
        lambda m, a, kw: seen.append(kw["emb"]), with_kwargs=True
    )  # fmt: skip
    s, _ = times_for(x)
    flow.given(guidance=4.0).velocity(x, s)
    net = flow.network.network
    assert torch.allclose(seen[0], net.time(net.sines(1000 * s)) + expected, rtol=1e-12)
    assert torch.equal(flow.velocity(x, s), flow.given(guidance=1.0).velocity(x, s))


def test_time_layers_under_their_former_name():
    assert students.Places is students.TimeLayers
    saved = {"type": "flowmaps.students.places:Places", "arguments": {"embedding": ["time"], "layers": ["layers.*"]}}
    ours = {"type": "flowmaps.students.places:OurPlaces", "arguments": {"embedding": "input"}}
    assert build(current(saved)) == students.TimeLayers("time", layers="layers.*")
    assert type(build(current(ours))).__name__ == "OurTimeLayers"
