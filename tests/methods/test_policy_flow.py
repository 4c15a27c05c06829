"""pi-Flow: the exact policy is its fixed point; rule, cost, refusals, runs, and one measured gate."""

import copy
import json
from functools import partial

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.experiments import explain, train
from flowmaps.experiments.build import for_row, make_flow
from flowmaps.methods.landscape import row_named
from flowmaps.methods.policy_flow import imitation
from flowmaps.outputs import MixturePolicy, policy_of
from flowmaps.training.ema import Average
from tests.methods.test_landscape import Wide, passes
from tests.test_compile import Counting
from tests.test_policy import MEANS, Constant, exact_flow, ring

ROW = row_named("pi_flow")
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 16}


@pytest.mark.parametrize("steps, points", [(1, 2), (4, 3)])
def test_the_exact_policy_is_a_fixed_point_and_another_variance_is_none(steps, points):
    """Residual and gradient are zero to rounding, from noise and from data noised to the times of several jumps."""
    torch.manual_seed(0)
    law, flow = ring(), exact_flow()
    method = fm.methods.pi_flow(law, steps=steps, points=points)
    loss = method.loss(flow, law.sample(64))
    loss.value.backward()
    assert loss.terms["imitation"].residual.shape == (64, points, 2)
    assert loss.value < 1e-22 and flow.network.value.grad.abs().max() < 1e-11
    for wrong in (MixturePolicy(MEANS, 0.05), MixturePolicy(MEANS * 1.1, 0.04)):
        other = fm.FlowMap(Constant(torch.zeros(25, dtype=torch.float64)), wrong)
        loss = method.loss(other, law.sample(64))
        loss.value.backward()
        assert loss.value > 1e-3 and other.network.value.grad.abs().max() > 1e-3


def test_it_compares_velocities_at_states_of_the_detached_policy():
    """The loss of two points, written out; its gradient is the one at fixed states."""
    torch.manual_seed(0)
    law, x = ring(), torch.randn(5, 2, dtype=torch.float64)
    flow = fm.FlowMap(Constant(torch.randn(25, dtype=torch.float64)), MixturePolicy(MEANS, 0.3))
    s, t, u = torch.full((5, 1), 0.9).double(), torch.full((5, 1), 0.1).double(), torch.rand(5, 2).double()
    got = imitation(flow, law, x, s, t, u=u, substeps=100)
    policy = policy_of(flow, x, s, t)
    wanted = []
    for time in (0.9 - 0.4 * u[:, :1], 0.5 - 0.4 * u[:, 1:]):
        with torch.no_grad():
            there = x + (time - s) * policy.average_velocity(x, s, time, 200)
        wanted.append(policy.velocity(there, time) - law.velocity(there, time))
    wanted = torch.stack(wanted, 1)
    assert torch.allclose(got, wanted, atol=1e-3)
    slopes = [torch.autograd.grad(r.square().sum(), flow.network.value, retain_graph=True)[0] for r in (got, wanted)]
    assert torch.allclose(*slopes, rtol=1e-2, atol=1e-3)


class WidePolicy(Wide):
    """The wide layers of the counts, with as many outputs as a policy takes."""

    def __init__(self, channels):
        super().__init__()
        self.output = nn.Linear(512, channels)


def test_costs_are_what_is_counted():
    """Network 1, backward 2, the teacher at each of two points 1; rollouts have no product of matrices."""
    output = MixturePolicy.fit(torch.randn(20, 2), 2)
    flow, teacher = fm.FlowMap(WidePolicy(output.channels), output), fm.FlowMap(Wide())
    assert passes(ROW.build(teacher), flow) == pytest.approx(ROW.cost, abs=0.06) and ROW.cost == ROW.shared == 5
    assert passes(ROW.build(teacher, points=4), flow) == pytest.approx(7, abs=0.06)


def test_a_row_says_what_its_function_does():
    method = ROW.build(ring())
    assert ROW.policy and ROW.needs_teacher and ROW.data_free and method.data_free and method.name == ROW.name
    assert not ROW.build(ring(), steps=2).data_free and ROW.paper.title in ROW.bibtex
    assert json.dumps(ROW.as_dict()) and json.dumps(explain("pi_flow").as_dict())
    s, t = ROW.build(ring(), steps=4).terms[0].times(1000, 0.0, torch.zeros(1))
    assert s.unique().tolist() == [0.25, 0.5, 0.75, 1] and torch.equal(s - t, torch.full((1000,), 0.25))


def test_other_maps_velocities_and_data_are_refused():
    method, plain = fm.methods.pi_flow(ring()), fm.FlowMap(fm.networks.MLP(2, 8, 1))
    with pytest.raises(ValueError, match="predicts a policy, and the output of this one is none"):
        method.loss(plain, torch.randn(8, 2))
    with pytest.raises(ValueError, match="conditional velocity of a pair has no meaning"):
        fm.Term(partial(imitation, substeps=2))
    with pytest.raises(TypeError, match="needs teacher="):
        fm.methods.pi_flow()
    with pytest.raises(ValueError, match="pi_flow trains a policy, and this flow map does not predict one"):
        for_row(plain, ROW)
    with pytest.raises(ValueError, match="holds tokens"):
        make_flow(fm.data.tokens(torch.randint(3, (40, 4)), 3), ROW)
    with pytest.raises(ValueError, match="leave `output=endpoint` out"):
        make_flow(fm.data.as_data(torch.randn(40, 2)), ROW, output="endpoint")


@pytest.mark.parametrize("network", ["auto", "unet", "dit"])
def test_images_get_a_network_of_their_kind(network):
    data = fm.data.as_data(torch.rand(40, 1, 8, 8) * 2 - 1)
    flow = make_flow(data, "pi_flow", network=network, width=12, depth=1)
    loss = fm.methods.pi_flow(fm.FlowMap(fm.networks.MLP((1, 8, 8), 8, 1)), substeps=2).loss(flow, data.draw(4).x0)
    loss.value.backward()
    assert flow.output.centres.shape == (16, 1) and loss.value.isfinite()


def test_it_trains_from_the_shell_by_a_run_and_is_sampled_saved_and_exported(tmp_path):
    small = ["--steps", "2", "--width", "8", "--depth", "1", "--batch-size", "16", "--sample-every", "0"]
    assert main(["train", "eight_gaussians", "--method", "flow_matching", "--out", str(tmp_path / "a"), *small]) == 0
    arguments = ["--method", "pi_flow", "--teacher", str(tmp_path / "a"), "--out", str(tmp_path / "b"), *small]
    assert main(["train", "eight_gaussians", *arguments]) == 0
    flow = fm.load(tmp_path / "b")
    assert isinstance(flow.output, MixturePolicy) and flow.trained.source == 1.0
    x = fm.sample(flow, torch.randn(6, 2), steps=1)
    assert x.shape == (6, 2) and bool(x.isfinite().all())
    assert main(["export", str(tmp_path / "b"), str(tmp_path / "c")]) == 0
    with pytest.raises(ValueError, match="this flow map does not predict one"):
        train("eight_gaussians", method="pi_flow", teacher=tmp_path / "a", start=tmp_path / "a", out=tmp_path / "d")


def test_a_stopped_run_continues_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    data, law = ring().sample(64).float(), ring()
    first = make_flow(fm.data.as_data(data), ROW, width=8, depth=1)
    runs = []
    for stops in ((4,), (2, 4)):
        for k, stop in enumerate(stops):
            options = {"steps": 4, "out": tmp_path / str(len(stops)), "checkpoint_every": 2, "resume": k > 0}
            for state in fm.train(copy.deepcopy(first), fm.methods.pi_flow(law, substeps=2), data, **QUIET, **options):
                if state.step == stop:
                    break
        runs.append(state.flow.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.slow
def test_its_loss_is_one_graph():
    torch.manual_seed(0)
    flow, method = exact_flow(substeps=2), fm.methods.pi_flow(fm.FlowMap(fm.networks.MLP(2, 8, 1)).double(), substeps=2)
    drawn = method.draw(flow, ring().sample(8))
    backend = Counting()
    compiled = torch.compile(fm.method.measure, backend=backend, fullgraph=True)
    got, expected = (f(flow, method.now(0.0), drawn).value for f in (compiled, fm.method.measure))
    assert backend.graphs == 1 and torch.allclose(got, expected)


@pytest.mark.slow
def test_one_jump_has_the_distribution_and_the_path_of_the_teacher():
    """Energy distance of 10,000 samples, standard error .0006, and the distance to the teacher's own ends.

    Measured with K = 8 after 200 steps: .0000, the floor, and .021 between the modes' width of .2.
    """
    torch.manual_seed(0)
    law, data = ring(), fm.data.as_data(ring().sample(4096).float())
    flow, steps = fm.recipes.policies(data, depth=3, components=8), 150
    method, average, optimizer = (
        fm.methods.pi_flow(law),
        Average(flow, 0.98),
        torch.optim.AdamW(flow.parameters(), 2e-3),
    )
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        loss = method.loss(flow, torch.zeros(256, 2)).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
    x = torch.randn(10_000, 2)
    ends = fm.sample(average.flow, x, steps=1)
    assert fm.evaluate.energy_distance(ends, law.sample(10_000).float()) <= 0.0024
    truth = law.flow_map(x[:2000], 1.0, 0.0)
    assert (ends[:2000] - truth).norm(dim=1).mean() <= 0.06
