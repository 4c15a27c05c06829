"""Joint maps in use: made, trained, saved, resumed, evaluated, and refused where their numbers would be wrong."""

import itertools
import math
from collections import deque

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import flowmaps as fm
from flowmaps import likelihood
from flowmaps.exact import Gaussian, GaussianMixture
from flowmaps.likelihood.by_joint_map import typical_divergence, variances_of
from flowmaps.networks import DivergenceHead, WithDivergence
from flowmaps.trained import TrainedSpec
from tests.likelihood.joint_maps import (
    LAW,
    GaussianHead,
    MixtureHead,
    gaussian_map,
    mixture_map,
    trained_head,
)
from tests.oracles import randn
from tests.training.support import QUIET


def small(shape=2, classes=None):
    return fm.FlowMap(fm.networks.MLP(shape, width=16, depth=1, embedding=8, classes=classes))


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4])
def test_the_exact_joint_map_gives_the_exact_log_density(steps):
    x0 = LAW.sample(200, torch.Generator().manual_seed(0))
    found = likelihood.log_prob(mixture_map(), x0, by=likelihood.joint(steps))
    torch.testing.assert_close(found.value, LAW.log_prob(x0), rtol=1e-6, atol=1e-6)
    assert found.passes == steps and found.standard_error is None
    torch.testing.assert_close(found.noise, LAW.flow_map(x0, 0.0, 1.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("steps, least", [(1, 0.1), (8, 0.1)])
def test_the_head_of_the_other_direction_gives_other_numbers(steps, least):
    """A head asked for the step towards the data, while the state moves to the noise, is wrong even if it is exact."""
    x, head, scale = LAW.sample(500, torch.Generator().manual_seed(0)), MixtureHead(), mixture_map().network.scale
    exact, change = LAW.log_prob(x), 0.0
    for s, t in itertools.pairwise(torch.linspace(0, 1, steps + 1).double().tolist()):
        ones = torch.ones(len(x)).double()
        towards_data = head(x, s * ones, max(2 * s - t, 0.0) * ones)[:, 0]
        change = change + (t - s) * scale * towards_data
        x = mixture_map()(x, s, t)
    noise = torch.distributions.Normal(0.0, 1.0).log_prob(x[:, 0])
    assert (noise + change - exact).abs().mean() > least


def test_samples_come_with_the_log_densities_of_the_head():
    flow, z = mixture_map(), randn(100, 1)
    x0, log_prob = likelihood.sample(flow, z, 2, by=likelihood.head)
    assert torch.equal(x0, fm.sample(flow, z, 2))
    torch.testing.assert_close(log_prob, LAW.log_prob(x0), rtol=1e-6, atol=1e-6)


def test_the_gap_to_the_ode_is_reported():
    """Of a map whose flow is one law, and whose head is the one of another law."""
    flow, law = gaussian_map()
    other = Gaussian([0.0, 0.0, 0.0], 0.5)
    other.mean, other.variances = other.mean.double(), other.variances.double()
    wrong = fm.FlowMap(WithDivergence(flow.network.network, GaussianHead(other), flow.network.scale))
    x0 = law.sample(20)
    assert likelihood.gap(flow, x0, 1, by=likelihood.ode(steps=20)).mean_absolute < 1e-5
    found = likelihood.gap(wrong, x0, 1, by=likelihood.ode(steps=20))
    expected = abs(3 * math.log(2) + law.variances.log().sum() / 2)
    assert found.mean_absolute == pytest.approx(float(expected), rel=1e-3)
    torch.testing.assert_close(found.difference, found.joint - found.reference)
    assert found.passes[0] == 1 < found.passes[1] and "1 against" in repr(found)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_flow_without_a_head_is_refused():
    for flow in (small(), Gaussian([0.0, 0.0], 1.0)):
        with pytest.raises(TypeError, match="has no head for its divergence.*joint_map"):
            likelihood.log_prob(flow, torch.randn(4, 2), by=likelihood.joint(2))
        with pytest.raises(TypeError, match="has no head"):
            likelihood.sample(flow, torch.randn(4, 2), 1, by=likelihood.head)


def test_an_untrained_head_is_refused():
    """It is zero everywhere, as it is after a training by a method of the state alone."""
    flow = likelihood.joint_map(small(), torch.randn(50, 2))
    deque(fm.train(flow, fm.methods.lsd(), torch.randn(64, 2), steps=2, **QUIET), maxlen=0)
    flow.trained = None
    with pytest.raises(ValueError, match=r"head of this joint map is untrained.*fm\.methods\.f2d2"):
        likelihood.log_prob(flow, torch.randn(4, 2), by=likelihood.joint(1))
    with pytest.raises(ValueError, match="head of this joint map is untrained"):
        likelihood.sample(flow, torch.randn(4, 2), 1, by=likelihood.head)


def test_a_map_of_one_direction_is_refused_in_the_other():
    flow = trained_head(small(), torch.randn(50, 2))
    flow.trained = TrainedSpec(down=True, up=False)
    with pytest.raises(ValueError, match="from noise to data"):
        likelihood.log_prob(flow, torch.randn(4, 2), by=likelihood.joint(1))
    assert likelihood.sample(flow, torch.randn(4, 2), 1, by=likelihood.head)[1].shape == (4,)
    with pytest.raises(ValueError, match="trained in one direction of time"):
        likelihood.joint_map(flow.around(flow.network.network), torch.randn(50, 2), frozen=True)


def test_a_partial_map_is_refused():
    flow = trained_head(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1), only_target=0.0), torch.randn(50, 2))
    with pytest.raises(ValueError, match="partial flow map has no jump from s = 0 to t = 1"):
        likelihood.log_prob(flow, torch.randn(4, 2), by=likelihood.joint(1))


def test_wrong_arguments_are_refused():
    x0, flow = torch.randn(50, 2), small()
    with pytest.raises(TypeError, match="without a head"):
        likelihood.joint_map(likelihood.joint_map(flow, x0), x0)
    with pytest.raises(TypeError, match="without a head"):
        likelihood.joint_map(flow.network, x0)
    with pytest.raises(ValueError, match="scale must be"):
        likelihood.joint_map(flow, x0, scale=-1.0)
    with pytest.raises(ValueError, match="times must end at 1"):
        likelihood.joint(times=[0.0, 0.5])
    for by in ("head", likelihood.joint(1), likelihood.Joint):
        with pytest.raises(TypeError, match="takes likelihood.determinants or likelihood.head"):
            likelihood.sample(flow, x0, by=by)
    with pytest.raises(ValueError, match="jumps alone: leave step= out"):
        likelihood.sample(trained_head(flow, x0), x0, by=likelihood.head, step="heun")
    with pytest.raises(ValueError, match=r"one number for each row, \(4, 1\), got \(4, 2\)"):
        likelihood.log_prob(likelihood.joint_map(flow, x0, small().network), x0[:4], by=likelihood.joint(1))
    with pytest.raises(TypeError, match=r"trains a joint map.*fm\.likelihood\.joint_map"):
        fm.methods.f2d2().loss(flow, x0)
    with pytest.raises(TypeError, match="f2d2 takes a method"):
        fm.methods.f2d2(3)


def test_a_teacher_of_jumps_needs_a_head():
    """Its velocity would give the divergence of an Euler step for a long jump."""
    flow = trained_head(small(), torch.randn(50, 2))
    with pytest.raises(ValueError, match="jumps of the teacher, and a teacher without a head"):
        fm.methods.f2d2(fm.methods.pfmm(small())).loss(flow, torch.randn(16, 2))


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_training_learns_the_log_density():
    """Two components in one dimension, distilled: the head's log-density is near the exact one, in both directions."""
    law = GaussianMixture([0.4, 0.6], [-1.0, 1.0], [0.5, 0.7])
    torch.manual_seed(0)
    network = fm.networks.ConcatMLP(1, width=32, depth=2)
    x0 = law.sample(500, torch.Generator().manual_seed(1)).float()
    flow = likelihood.joint_map(fm.FlowMap(network), law.sample(2000).float(), DivergenceHead(1, 32, 1))
    method = fm.methods.f2d2(teacher=law, divergence=likelihood.exact(chunk=1))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        method.loss(flow, law.sample(96).float()).value.backward()
        optimizer.step()
        schedule.step()
    found = likelihood.log_prob(flow.eval(), x0, by=likelihood.joint(1)).value
    assert (found - law.log_prob(x0)).abs().mean() < 0.15
    samples, of_samples = likelihood.sample(flow, torch.randn(500, 1), 1, by=likelihood.head)
    assert (of_samples - law.log_prob(samples)).abs().mean() < 0.15


def test_the_head_alone_is_trained_beside_frozen_weights():
    flow = small()
    nn.init.normal_(flow.network.output.weight)
    before = [weight.clone() for weight in flow.parameters()]
    joint = likelihood.joint_map(flow, torch.randn(50, 2), frozen=True)
    state = deque(fm.train(joint, fm.methods.f2d2(), torch.randn(64, 2), steps=3, lr=1e-2, **QUIET), maxlen=1)[0]
    trained = state.flow.network
    assert all(torch.equal(a, b) for a, b in zip(before, trained.network.parameters(), strict=True))
    assert trained.head.output.weight.abs().max() > 0


def test_a_joint_map_is_the_plain_map_beside_its_head():
    flow, x0 = small(classes=3), torch.randn(50, 2)
    nn.init.normal_(flow.network.output.weight)
    joint, z, label = trained_head(flow, x0), torch.randn(5, 2), torch.arange(5) % 3
    assert torch.equal(fm.sample(joint, z, 2, condition=label), fm.sample(flow, z, 2, condition=label))
    assert joint.network.head.conditioning.label.classes == 3
    likelihood.log_prob(joint, x0[:5], by=likelihood.joint(2), condition=label)


def test_the_scale_is_the_rms_divergence_of_a_gaussian():
    law = Gaussian([0.3, -0.2, 0.1], std=[0.7, 1.0, 0.4])
    t = (torch.arange(64).double() + 0.5) / 64
    head = GaussianHead(law)
    expected = (1.7 * head(torch.zeros(64, 1).double(), t, t)[:, 0]).square().mean().sqrt()
    variances = variances_of(law.sample(200_000, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(variances, law.variances.double().sort().values, rtol=0.02, atol=0)
    assert typical_divergence(variances, law.path) == pytest.approx(float(expected), rel=0.02)
    degenerate = torch.cat([law.sample(1000), torch.zeros(1000, 1)], 1)
    assert variances_of(degenerate).min() == pytest.approx(float(variances_of(degenerate).max()) * 0.02**2)


class Products(TorchDispatchMode):
    """Counts the matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            a, b = args[-2:]
            self.count += a.shape[0] * a.shape[1] * b.shape[1]
        return function(*args, **(kwargs or {}))


def products(function):
    with Products() as counter:
        function()
    return counter.count


@pytest.mark.parametrize(
    "name, probes, cost", [("lsd", 1, 2), ("lsd", 3, 5), ("psd", 1, 2), ("imf", 1, 4), ("meanflow", 1, 4)]
)
def test_a_probe_costs_one_derivative_and_no_more(name, probes, cost):
    """Forward passes of a wide network, without its head, in a step with the whole batch in each term.

    Divergences are taken where a method compares with the velocity of data: value and derivative, 2, for each term that
    does, and 5 for three probes, which torch.func computes together. LSD and PSD do so on the diagonal alone, MeanFlow
    and its relatives in both terms.
    """
    width = 256
    torch.manual_seed(0)

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.output = nn.Linear(4, width), nn.Linear(width, 2)
            self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(6))

        def forward(self, x, s, t):
            h = self.input(torch.cat([x, s[:, None], t[:, None]], 1))
            for layer in self.inner:
                h = layer(torch.tanh(h))
            return self.output(torch.tanh(h))

    class Thin(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def forward(self, x, s, t):
            return self.linear(torch.cat([x, s[:, None], t[:, None]], 1))

    flow, x0 = fm.FlowMap(Wide()), torch.randn(16, 2)
    joint = likelihood.joint_map(flow, x0, Thin())
    build = getattr(fm.methods, name)
    forward = products(lambda: flow(x0, 0.7, 0.2).detach())
    plain = products(lambda: build().loss(flow, x0, times=(0.7, 0.2)).value.backward())
    method = fm.methods.f2d2(build(), divergence=likelihood.hutchinson(probes))
    whole = products(lambda: method.loss(joint, x0, times=(0.7, 0.2)).value.backward())
    assert (whole - plain) / forward == pytest.approx(cost, rel=0.02)


# --- run folders ------------------------------------------------------------------------------------------------------


def run(folder, steps, stop=None, resume=False, seed=1):
    """Train a joint map in a folder, and return its last state."""
    torch.manual_seed(seed)
    flow = likelihood.joint_map(small(), torch.randn(50, 2, generator=torch.Generator().manual_seed(2)))
    data = torch.randn(200, 2, generator=torch.Generator().manual_seed(3))
    states = fm.train(
        flow, fm.methods.f2d2(), data, steps=steps, lr=1e-2, out=folder, checkpoint_every=3, resume=resume, **QUIET
    )
    return deque(itertools.islice(states, stop), maxlen=1)[0]


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    whole = run(tmp_path / "whole", 8)
    run(tmp_path / "parts", 8, stop=4)
    torch.manual_seed(9)
    parts = run(tmp_path / "parts", 8, resume=True)
    for a, b in zip(whole.flow.parameters(), parts.flow.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_joint_map_is_read_back_from_its_folder_and_from_a_file(tmp_path):
    state = run(tmp_path / "run", 4)
    fm.save(state.ema, tmp_path / "joint.safetensors")
    x0 = torch.randn(6, 2)
    expected = likelihood.log_prob(state.ema.eval(), x0, by=likelihood.joint(2)).value
    for place in ("run", "joint.safetensors"):
        flow = fm.load(tmp_path / place)
        assert isinstance(flow.network, WithDivergence) and flow.network.scale == state.flow.network.scale
        assert flow.trained.up and flow.trained.down and flow.trained.velocity
        assert torch.equal(likelihood.log_prob(flow, x0, by=likelihood.joint(2)).value, expected)
