"""`log_prob`: units, conditions, batches, dtypes, seeds, networks, teachers, and refusals."""

import math
import warnings

import pytest
import torch
from torch import nn

import flowmaps as fm
from tests.guidance.support import CLASSES, MIXTURE, NULL, Field
from tests.likelihood.beds import EXACT, LAW, Affine, draws, network, on, randn

L = fm.likelihood
FEW = {
    "ode": L.ode(EXACT, steps=3),
    "adaptive": L.ode(EXACT, L.adaptive(rtol=1e-3, atol=1e-3)),
    "jumps": L.jumps(2, chunk=1),
    "heun": L.jumps(2, step="heun", chunk=1),
}
ALL = FEW | {
    "hutchinson": L.ode(L.hutchinson(2), steps=2),
    "differences": L.ode(L.differences(2), steps=2),
    "bound": L.bound(4),
}
EACH = pytest.mark.parametrize("by", ALL.values(), ids=ALL)


# --- units ------------------------------------------------------------------------------------------------------------


class Standard(nn.Module):
    """The velocity of a standard normal, N(0, I) at all times on the trigonometric path: V = 0 times x."""

    def forward(self, x, s, t):
        return 0.0 * x


def in_units(mean, std):
    """The law N(mean, diag std^2) as a flow map on standardised data."""
    flow = fm.FlowMap(Standard(), path=fm.path.trigonometric)
    flow.units = fm.Units(mean, std)
    return flow


@EACH
def test_densities_are_in_the_units_of_the_data(by):
    """Against an exact law in raw units: the values of differently scaled features, and one number for all."""
    mean, std = (100.0, -3.0), (250.0, 0.01)
    normal = torch.distributions.Normal(torch.tensor(mean).double(), torch.tensor(std).double())
    torch.manual_seed(0)
    x0 = normal.sample((30,))
    found = L.log_prob(in_units(mean, std), x0, by=by)
    exact = normal.log_prob(x0).sum(1)
    tolerance = 1e-3 if isinstance(by, L.Ode | L.Jumps) else 20.0  # four draws of the bound have sd 3 and more
    torch.testing.assert_close(found.value, exact, rtol=0, atol=tolerance)
    if isinstance(by, L.Bound):
        many = L.log_prob(in_units(mean, std), x0, by=L.bound(1000))
        assert bool(((many.value - exact).abs() < 4 * many.standard_error + 2e-3).all())


def test_features_of_images_count_once_for_each_pixel():
    flow = in_units((0.0, 1.0, 2.0), (2.0, 3.0, 0.5))
    x0 = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    std = torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64).reshape(3, 1, 1)
    exact = torch.distributions.Normal(torch.tensor([0.0, 1.0, 2.0]).double().reshape(3, 1, 1), std).log_prob(x0)
    torch.testing.assert_close(L.log_prob(flow, x0, by=L.ode(steps=1)).value, exact.sum((1, 2, 3)))
    shared = in_units((5.0,), (2.0,))
    exact = torch.distributions.Normal(torch.tensor(5.0).double(), 2.0).log_prob(x0)
    torch.testing.assert_close(L.log_prob(shared, x0, by=L.ode(steps=1)).value, exact.sum((1, 2, 3)))


def test_samples_have_densities_in_the_units_of_the_data():
    mean, std = (100.0, -3.0), (250.0, 0.01)
    x0, value = L.sample(in_units(mean, std), randn(30, 2), 2)
    normal = torch.distributions.Normal(torch.tensor(mean).double(), torch.tensor(std).double())
    torch.testing.assert_close(value, normal.log_prob(x0).sum(1), rtol=0, atol=1e-6)


def test_constant_features_and_other_shapes_are_refused():
    for call in (lambda flow, x: L.log_prob(flow, x), lambda flow, x: L.sample(flow, x)):
        with pytest.raises(ValueError, match=r"feature 1 is constant"):
            call(in_units((0.0, 1.0), (1.0, 0.0)), randn(3, 2))
        with pytest.raises(ValueError, match="2 features"):
            call(in_units((0.0, 1.0), (1.0, 1.0)), randn(3, 4))


# --- conditions -------------------------------------------------------------------------------------------------------


def labelled():
    """A map whose law depends on the label: V = a(label) x + b(label), with known densities."""

    class Labelled(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.tensor([[0.1, 1.0], [-0.5, 0.0], [0.4, -2.0]], dtype=torch.float64))

        def forward(self, x, s, t, label):
            rate, offset = self.table[label].unbind(-1)
            return rate[..., None] * x + offset[..., None]

    return fm.FlowMap(Labelled())


@pytest.mark.parametrize("by", FEW.values(), ids=FEW)
def test_each_row_has_its_own_condition(by):
    """Also across batches, bound before or passed, and one for all."""
    flow, x, label = labelled(), draws(20), torch.arange(20) % 3
    alone = torch.cat(
        [L.log_prob(flow.given(label=one[None]), row[None], by=by).value for row, one in zip(x, label, strict=True)]
    )
    tolerance = 1e-2 if by is FEW["adaptive"] else 1e-12
    for size in (None, 7):
        for found in (
            L.log_prob(flow, x, by=by, condition=label, batch_size=size),
            L.log_prob(flow, x, by=by, condition={"label": label}, batch_size=size),
            L.log_prob(flow.given(label=label), x, by=by, batch_size=size),
        ):
            torch.testing.assert_close(found.value, alone, rtol=0, atol=tolerance)
    one = L.log_prob(flow, x, by=by, condition=torch.tensor([2]), batch_size=6).value
    torch.testing.assert_close(one[label == 2], alone[label == 2], rtol=0, atol=tolerance)
    z = randn(20, 2)
    whole = L.sample(flow, z, condition=label)
    for found in (L.sample(flow.given(label=label), z, batch_size=7), L.sample(flow, z, condition=label, batch_size=1)):
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)


def test_conditions_of_another_length_are_refused():
    """Before, more labels than rows were cut off in silence when the rows came in batches."""
    flow, x = labelled(), draws(10)
    for length in (9, 11, 20):
        for size in (None, 5):
            with pytest.raises(ValueError, match="a row for each of 10"):
                L.log_prob(flow, x, condition=torch.zeros(length).long(), batch_size=size)
            with pytest.raises(ValueError, match="a row for each of 10"):
                L.sample(flow, x, condition=torch.zeros(length).long(), batch_size=size)
    with pytest.raises(TypeError, match="no condition"):
        L.log_prob(LAW, x, condition=torch.zeros(10).long())


@pytest.mark.slow
def test_classes_have_their_own_densities():
    """A conditional field of exact classes: each row has the density of its class, and the null class the mixture."""
    flow = fm.FlowMap(Field(scale=lambda s: torch.ones_like(s)))
    x, label = MIXTURE.sample(24, torch.Generator().manual_seed(0)), torch.arange(24) % 3
    found = L.log_prob(flow, x, by=L.ode(EXACT, steps=40), condition=label).value
    exact = torch.stack([one.log_prob(x) for one in CLASSES])[label, torch.arange(24)]
    torch.testing.assert_close(found, exact.to(found), rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_a_guided_velocity_has_the_density_of_its_own_samples():
    """Scale 1 is the class, scale 0 the mixture; other scales sample a law of their own, which integrates to one."""
    flow = fm.FlowMap(Field(scale=lambda s: torch.ones_like(s)))
    label = torch.tensor([1])
    grid = torch.arange(-4, 4, 0.05, dtype=torch.float64)[:, None]
    for scale, law in ((1.0, CLASSES[1]), (0.0, MIXTURE), (2.0, None)):
        guided = fm.guidance.classifier_free(flow, scale, null=NULL)
        found = L.log_prob(guided, grid, by=L.ode(EXACT, steps=25), condition=label.expand(len(grid))).value
        assert float(found.exp().sum() * 0.05) == pytest.approx(1, abs=2e-3)
        if law is not None:
            near = law.log_prob(grid) > -8
            assert float((found - law.log_prob(grid))[near].abs().max()) < 2e-2


# --- batches, seeds, dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [FEW["ode"], FEW["jumps"], FEW["heun"]], ids=["ode", "jumps", "heun"])
def test_batches_change_no_exact_result(by):
    x = draws(23)
    flow = network()
    whole = L.log_prob(flow, x, by=by)
    for size in (1, 5, 100):
        parts = L.log_prob(flow, x, by=by, batch_size=size)
        torch.testing.assert_close(parts.value, whole.value, rtol=0, atol=1e-12, equal_nan=True)
        torch.testing.assert_close(parts.noise, whole.noise, rtol=0, atol=1e-12)
        assert parts.passes == whole.passes


@EACH
def test_the_seed_of_torch_decides(by):
    flow, x, found = network(), draws(6), []
    for _ in range(2):
        torch.manual_seed(4)
        found.append(L.log_prob(flow, x, by=by).value)
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)


@EACH
def test_results_have_their_shapes_and_no_gradient(by):
    x = draws(5).requires_grad_()
    found = L.log_prob(network(), x, by=by)
    assert found.value.shape == (5,) and not found.value.requires_grad and found.passes > 0
    assert found.noise is None or found.noise.shape == x.shape
    assert "LogProb" in repr(found) and len(repr(found)) < 300


@pytest.mark.parametrize("by", FEW.values(), ids=FEW)
def test_single_precision_is_close_to_double(by):
    flow, x = network(), draws(20)
    double = L.log_prob(flow, x, by=by)
    single = L.log_prob(network().float(), x.float(), by=by)
    assert single.value.dtype == torch.float32
    tolerance = 2e-2 if by is FEW["adaptive"] else 1e-4
    torch.testing.assert_close(single.value.double(), double.value, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ode", "jumps", "hutchinson", "differences", "bound"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_in_half_precision(name, dtype):
    """States in their own dtype, sums in float32."""
    by, flow = ALL[name], fm.FlowMap(fm.networks.DiT((1, 4, 4), patch=2, width=16, depth=1, heads=2)).to(dtype)
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = L.log_prob(flow, x.to(dtype), by=by)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum((1, 2, 3))  # the output starts at zero
    assert found.value.dtype == torch.float32
    if not isinstance(by, L.Bound):
        torch.testing.assert_close(found.value, normal, rtol=0, atol=0.3)


# --- networks ---------------------------------------------------------------------------------------------------------


def random_weights(net):
    torch.manual_seed(0)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.1)
    return fm.FlowMap(net).eval()


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("kind", ["DiT", "UNet"])
def test_networks_of_images_under_both_engines(kind, checkpoint):
    """The exact trace and the determinant by `torch.func` together, and one by one by dual numbers."""
    if kind == "DiT":
        net = fm.networks.DiT((1, 4, 4), patch=2, width=16, depth=1, heads=2, checkpoint=checkpoint)
    else:
        net = fm.networks.UNet((1, 4, 4), width=4, multipliers=(1,), blocks=1, checkpoint=checkpoint)
    flow = random_weights(net)
    x = torch.randn(2, *net.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for make in (lambda chunk: L.ode(L.exact(chunk), L.grid(1, L.heun)), lambda chunk: L.jumps(chunk=chunk)):
            together, alone = (L.log_prob(flow, x, by=make(chunk)).value for chunk in (16, 1))
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-3)


def test_dropout_in_evaluation_is_no_trouble():
    class Dropping(Affine):
        def forward(self, x, s, t):
            return nn.functional.dropout(super().forward(x, s, t), 0.5, self.training)

    flow, x = fm.FlowMap(Dropping(0.3 * torch.eye(2))).eval(), torch.randn(4, 2)
    expected = L.log_prob(fm.FlowMap(Affine(0.3 * torch.eye(2))), x, by=L.ode(steps=5)).value
    torch.testing.assert_close(L.log_prob(flow, x, by=L.ode(steps=5)).value, expected)


def test_a_network_that_writes_in_place():
    class InPlace(Affine):
        def forward(self, x, s, t):
            y = super().forward(x, s, t)
            y[:, 0] *= 2.0
            return y

    matrix = torch.tensor([[0.2, 0.1], [0.0, -0.3]], dtype=torch.float64)
    doubled = torch.tensor([[0.4, 0.2], [0.0, -0.3]], dtype=torch.float64)
    x = draws(4)
    expected = L.log_prob(fm.FlowMap(Affine(doubled)), x, by=L.ode(steps=5)).value
    for chunk in (1, 16):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = L.log_prob(fm.FlowMap(InPlace(matrix)), x, by=L.ode(L.exact(chunk), steps=5)).value
        torch.testing.assert_close(found, expected)


# --- other flows ------------------------------------------------------------------------------------------------------


def test_any_object_with_a_velocity():
    class Bare:
        def velocity(self, x, t):
            return LAW.velocity(x, t)

    x = draws(10)
    by = L.ode(EXACT, steps=5)
    torch.testing.assert_close(L.log_prob(Bare(), x, by=by).value, L.log_prob(LAW, x, by=by).value)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [fm.path.linear, fm.path.VariancePreserving()], ids=["linear", "preserving"])
def test_a_teacher_has_the_density_of_its_model(schedule):
    """A pretrained noise prediction on another path than the one that it is followed on."""
    law = on(schedule)

    def noise(x, u):
        t = u.reshape(-1, 1)
        return schedule.convert(law.velocity(x, t), x, t, fm.path.velocity, fm.path.noise)

    teacher = fm.teacher(noise, fm.path.noise, schedule, known=(1e-4, 0.9999))
    x = draws(20)
    found = L.log_prob(teacher, x, by=L.ode(EXACT, L.grid(30, power=2), start=1e-3))
    assert float((found.value - LAW.log_prob(x)).abs().max()) < 0.05
    with pytest.raises(TypeError, match="a velocity but no jumps"):
        L.log_prob(teacher, x, by=L.jumps())
    torch.manual_seed(0)
    many = L.log_prob(teacher, x[:1].expand(4000, 2), by=L.bound(16, start=1e-2)).value
    assert abs(float(many.mean() - LAW.log_prob(x[:1]))) < 4 * float(many.std()) / 4000**0.5 + 0.05


@pytest.mark.slow
def test_a_pipeline_of_diffusers(tmp_path):
    """Its network cannot be followed together: the same result one by one, by differences, and with a bound."""
    pytest.importorskip("diffusers")
    from flowmaps.integrations.diffusers import teacher
    from tests.integrations import tiny

    model = teacher(tiny.ddpm_unet(tmp_path))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    solver = L.grid(1, L.heun)
    found = {}
    for name, trace in {
        "usual": L.hutchinson(2, fresh=False),
        "alone": L.hutchinson(2, fresh=False, chunk=1),
        "differences": L.differences(2, fresh=False, h=1e-3),
    }.items():
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = L.log_prob(model, x, by=L.ode(trace, solver, start=0.05)).value
    torch.testing.assert_close(found["usual"], found["alone"], rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(found["differences"], found["alone"], rtol=1e-2, atol=0.1)
    assert L.log_prob(model, x, by=L.bound(2)).value.isfinite().all()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x0", "kind", "match"),
    [
        ([[0.0, 1.0]], TypeError, "must be a tensor"),
        (torch.zeros(3, 2, dtype=torch.long), ValueError, r"x0.float\(\)"),
        (torch.zeros(3, 2, dtype=torch.complex64), ValueError, "floating"),
        (torch.zeros(3), ValueError, r"\(B, ...\)"),
        (torch.zeros(()), ValueError, r"\(B, ...\)"),
        (torch.zeros(0, 2), ValueError, "no values"),
        (torch.zeros(3, 0), ValueError, "no values"),
        (torch.tensor([[0.0, 1.0], [0.0, math.nan]]), ValueError, "1 of its 2 rows"),
        (torch.tensor([[math.inf, 1.0]]), ValueError, "finite"),
        (torch.zeros(3, 3), ValueError, "shape"),
    ],
)
@EACH
def test_wrong_data_are_refused(x0, kind, match, by):
    flow = fm.FlowMap(Affine(0.1 * torch.eye(2)))
    flow.trained = fm.TrainedSpec(up=True, shape=(2,))
    with pytest.raises(kind, match=match):
        L.log_prob(flow, x0, by=by)


@pytest.mark.parametrize("by", ["ode", 3, L.ode, L.jumps, L.bound, L.Ode, L.hutchinson(2)])
def test_wrong_estimators_are_refused(by):
    with pytest.raises(TypeError, match="estimator|takes an"):
        L.log_prob(LAW, draws(3), by=by)


def test_wrong_batch_sizes_are_refused():
    for size in (0, -1, 2.5):
        with pytest.raises((ValueError, TypeError), match="batch_size"):
            L.log_prob(LAW, draws(3), batch_size=size)


def test_data_out_of_the_range_of_training_are_named():
    """Images from 0 to 255, or rows in other units: they lead to noise that no sample starts from."""
    model = fm.exact.Gaussian(torch.zeros(1, 4, 4), 0.5)
    images = 0.5 * randn(5, 1, 4, 4)
    for by in (L.ode(steps=5), L.jumps(chunk=1)):
        with pytest.warns(UserWarning, match=r"5 of 5 rows lead to noise.*\[-1, 1\]"):
            L.log_prob(model, 127.5 * (images + 1), by=by)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            L.log_prob(model, images, by=by)


def test_a_velocity_that_is_not_finite_is_named():
    class Broken:
        def velocity(self, x, t):
            return torch.where(x > 1, math.nan, 0.0) * x

    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.5, 0.5]])
    with pytest.raises(FloatingPointError, match=r"of 1 of 3 rows is not finite, first of row 1"):
        L.log_prob(Broken(), x, by=L.ode(steps=2))
