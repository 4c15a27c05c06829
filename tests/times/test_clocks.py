"""Clocks: the published times of Flow Language Models, samplers on a clock, and a clock that is learned."""

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import flowmaps as fm
from flowmaps.method import TermLoss
from flowmaps.times import clocked, flm_clock, uniform_diagonal
from tests.tokens import TokenMLP, table

TABLE = {
    2: (0.849, 0.689, 0.512, 0.381, 0.301),
    3: (0.814, 0.643, 0.473, 0.355, 0.284),
    27: (0.574, 0.432, 0.331, 0.266, 0.225),
    50257: (0.256, 0.221, 0.191, 0.169, 0.152),
}
"""Times at which 10, 25, 50, 75 and 90% of the decisions between K classes are made."""


@pytest.mark.parametrize("classes", TABLE)
def test_the_clock_of_decisions_has_the_published_times(classes):
    clock = fm.times.flm_clock(classes)
    u = 1 - torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    torch.testing.assert_close(clock(u), torch.tensor(TABLE[classes], dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(clock.inverse(clock(u)), u, atol=1e-9, rtol=0)
    assert clock(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_the_clock_is_the_share_of_right_decisions():
    """By simulation for three classes: 3 s.e. of 200,000 draws are .0033."""
    torch.manual_seed(0)
    clock, t = fm.times.flm_clock(3), 0.5
    x = t * torch.randn(200_000, 3)
    x[:, 0] += 1 - t
    right = float((x.argmax(1) == 0).double().mean())
    assert 1 - (3 * right - 1) / 2 == pytest.approx(
        float(clock.inverse(torch.tensor(t, dtype=torch.float64))), abs=5e-3
    )


def test_samplers_and_grids_follow_a_clock():
    torch.manual_seed(0)
    clock, like = fm.times.flm_clock(3), torch.zeros(4000, 2, 3)
    s, t = fm.times.clocked(fm.times.uniform_triangle(), clock)(4000, 0.0, like)
    assert bool((t <= s).all()) and s.dtype == torch.float32
    found, _ = fm.times.clocked_by_classes(fm.times.stratified_diagonal())(4000, 0.0, like)
    torch.testing.assert_close(
        clock.inverse(found.double()).sort().values, torch.arange(4000) / 4000.0, atol=3e-4, rtol=0, check_dtype=False
    )
    grid = fm.grids.on_clock(clock, 8)
    assert len(grid) == 9 and bool((grid.diff() > 0).all()) and grid[0] == 0 and grid[-1] == 1
    torch.testing.assert_close(clock.inverse(grid).diff(), torch.full((8,), 1 / 8, dtype=torch.float64))


def test_stratified_times_have_one_row_in_each_part():
    s, t = fm.times.stratified_diagonal()(64, 0.0, torch.zeros(64))
    assert torch.equal(s, t) and (s * 64).floor().long().sort().values.tolist() == list(range(64))


def observed(clock, steps=200, n=64, loss=lambda s: torch.sigmoid(20 * (s - 0.3))):
    torch.manual_seed(0)
    for _ in range(steps):
        s, t = clock(n, 0.0, torch.zeros(n))
        clock.observe(TermLoss(torch.zeros(()), loss(s)[:, None] + 0.1 * torch.randn(n, 1), s, t))
    return clock


def test_a_learned_clock_draws_times_where_the_loss_rises():
    """Its density is the slope of the loss: t has the quantiles of a logistic law at .3 with scale .05."""
    new = fm.velocity.LearnedClock()
    uniform = torch.linspace(0, 1, 11)
    torch.testing.assert_close(new.clock()(uniform), uniform)
    clock = observed(fm.velocity.LearnedClock(floor=1e-6))
    expected = 0.3 + 0.05 * torch.logit(torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(clock.clock()(torch.tensor([0.25, 0.5, 0.75])), expected, atol=0.03, rtol=0)
    clock.restart(None)
    torch.testing.assert_close(clock.clock()(uniform), uniform)


def test_a_method_keeps_its_clock_and_a_copy_goes_on_as_it():
    """The averages are in the state of the method; the loss observes, and so does training."""
    torch.manual_seed(0)
    law = fm.exact.Categorical(table())
    flow = fm.FlowMap(TokenMLP(2, 3), fm.Endpoint(link=fm.links.Hull(torch.eye(3))), fm.path.VarianceExploding(10.0))
    method, again = fm.methods.cdcd(), fm.methods.cdcd()
    for _ in range(3):
        method.loss(flow, law.sample(16).float())
    counts = method.state_dict()["parts.0.counts"]
    assert float(counts.sum()) == pytest.approx(16 * (1 + 0.99 + 0.99**2), rel=1e-5)
    again.load_state_dict(copy.deepcopy(method.state_dict()))
    x0 = law.sample(16).float()
    losses = []
    for one in (method, again):
        torch.manual_seed(1)
        losses.append([one.loss(flow, x0).value.item() for _ in range(2)])
    assert losses[0] == losses[1]


def test_wrong_clocks_are_refused():
    with pytest.raises(TypeError, match="a clock is a function"):
        fm.times.clocked(fm.times.uniform_diagonal(), 27)
    with pytest.raises(ValueError, match="classes"):
        fm.times.flm_clock(1)
    with pytest.raises(ValueError, match="go from time 0 to 1"):
        fm.velocity.LearnedClock(torch.linspace(0.1, 1, 5))


def test_a_table_that_is_made_among_fake_tensors_is_real():
    """A plan of a recipe counts with fake tensors, and the table is kept for later."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = flm_clock(41)
        drawn, _ = clocked(uniform_diagonal(), made)(4, 0.0, torch.zeros(4, 2, 41))
    assert type(made.u) is torch.Tensor and made is flm_clock(41) and drawn.shape == (4,)
    assert float(flm_clock(41)(torch.tensor(0.5))) > 0.2


def test_a_run_goes_on_with_its_clock_and_its_embedding(tmp_path):
    """A run that stops and is resumed has the numbers of a run that does not, bit for bit."""
    x0 = fm.exact.Categorical(table()).sample(64).float()
    quiet = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 16, "checkpoint_every": 2}
    made = []
    for folder, stops in (("whole", (4,)), ("parts", (2, 4))):
        for stop in stops:
            torch.manual_seed(0)
            link = fm.links.Hull(torch.randn(3, 2), fm.links.unit_rows)
            flow = fm.FlowMap(TokenMLP(2, 3, inputs=2), fm.Endpoint(link=link), fm.path.VarianceExploding(10.0))
            method, resume = fm.methods.cdcd(), stop != stops[0]
            for state in fm.train(flow, method, x0, steps=4, out=tmp_path / folder, resume=resume, **quiet):
                if state.step == stop:
                    break
        made.append({**flow.state_dict(), **method.state_dict()})
    assert float(made[0]["parts.0.counts"].sum()) == pytest.approx(16 * sum(0.99**k for k in range(4)))
    torch.testing.assert_close(made[0], made[1], atol=0, rtol=0)
