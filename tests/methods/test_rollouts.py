"""On-policy starts of distillation methods: their states, and the truth as a zero of the loss there."""

import pytest
import torch

import flowmaps as fm
from flowmaps.draws import Rows
from flowmaps.method.term import OnPolicy, from_data
from flowmaps.methods import RestartedRollout, Rollout, on_policy
from flowmaps.velocity import Pair
from tests.oracles import flow_of, gaussian, mixture, randn, times

LEVELS = (1.0, 0.75, 0.5, 0.25)
NO_DATA = torch.full((24, 1), torch.nan, dtype=torch.float64)
EXACT_SLOPE = fm.derivative.finite_difference(1e-3)


def pair_of(eps, s):
    return Pair(torch.full_like(eps, torch.nan), eps, fm.path.linear, {}, s=s, t=s)


def test_states_are_the_samplers_at_its_levels_and_cut_jumps_between_them():
    flow, eps = fm.FlowMap(Halving()), randn(6, 3)
    s = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.6, 0.1], dtype=torch.float64)
    found = Rollout.of_jumps(4)(flow, pair_of(eps, s), s)
    sampled = fm.trajectory(flow, eps, steps=4)
    for row in range(len(LEVELS)):
        torch.testing.assert_close(found[row], sampled[row][row])
    torch.testing.assert_close(found[4], flow(sampled[1], 0.75, 0.6)[4])
    torch.testing.assert_close(found[5], flow(sampled[3], 0.25, 0.1)[5])
    torch.testing.assert_close(found[:4], OnPolicy(LEVELS)(flow, pair_of(eps, s), s)[:4])
    one = flow(eps, 1.0, s)
    assert not found.requires_grad and (found[4:] - one[4:]).abs().min() > 1e-3  # this map is no true flow map


class Halving(torch.nn.Module):
    """An average velocity that is no flow map's, so that one jump differs from two."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x, s, t):
        return self.weight * x.roll(1, 1) * (1 + s * s)[:, None] + torch.tanh(x) * t[:, None]


def test_states_of_restarts_have_the_same_noise_in_every_part():
    flow = fm.FlowMap(Halving(), only_target=0.0)
    eps, s = randn(6, 3), torch.tensor([1.0, 0.5, 0.3, 0.7, 0.5, 1.0], dtype=torch.float64)
    term = fm.Term(
        lambda flow, teacher, x, s, t: x, fm.velocity.own, start=RestartedRollout.of_jumps(2), name="states",
        times=lambda n, progress, like: (s, torch.zeros_like(s)),
    )  # fmt: skip
    method, x0 = fm.Method(term), torch.full_like(eps, torch.nan)
    torch.manual_seed(0)
    (drawn,) = method.draw(flow, x0)
    found = method.measure(flow, (drawn,)).terms["states"].residual
    (noise,) = drawn.numbers.values()
    data = flow(drawn.eps, 1.0, 0.0)
    middle = 0.5 * data + 0.5 * noise[:, 0]
    wanted = [drawn.eps[0], middle[1], 0.7 * flow(middle, 0.5, 0.0)[2] + 0.3 * noise[2, 1]]
    wanted += [0.3 * data[3] + 0.7 * noise[3, 1], middle[4], drawn.eps[5]]
    torch.testing.assert_close(found, torch.stack(wanted))
    torch.manual_seed(0)
    (half,) = method.draw(flow, x0[1::2], rows=Rows(1, 2, 6))
    torch.testing.assert_close(method.measure(flow, (half,)).terms["states"].residual, found[1::2])


@pytest.mark.parametrize("name", ["lmd", "emd", "splitmeanflow"])
def test_the_truth_is_a_zero_at_its_own_states(name):
    """No data are read. A teacher of another law leaves a residual, so that zero is no accident."""
    exact, eps = mixture(), randn(24, 1, seed=2)
    s, t = times(24)
    s, t = torch.maximum(s, t), torch.minimum(s, t)
    build = getattr(fm.methods, name)
    slope = {} if name == "splitmeanflow" else {"derivative": EXACT_SLOPE}
    shifted = fm.exact.GaussianMixture([0.3, 0.5, 0.2], [-1.2, 0.2, 1.4], [0.25, 0.4, 0.15])
    worst = []
    for teacher in (exact, shifted):
        method = on_policy(build(teacher, **slope), which=lambda term: True)
        assert method.data_free and method.name == f"{name}_on_policy"
        loss = method.loss(flow_of(exact), NO_DATA, noise=eps, times=(s, t))
        worst.append(max(term.residual.abs().max().item() for term in loss.terms.values()))
    assert worst[0] < 1e-4 < 0.05 < worst[1]


def test_terms_move_by_choice_and_in_parts():
    teacher = gaussian()
    whole = fm.methods.ayf_lmd(teacher)
    moved = on_policy(whole, Rollout(LEVELS))
    assert [term.start for term in moved.terms] == [
        from_data if term.diagonal else Rollout(LEVELS) for term in whole.terms
    ]
    parts = on_policy(fm.methods.lmd(teacher), share=0.25).terms
    assert [(term.name, term.share) for term in parts] == [("lagrangian", 0.75), ("lagrangian_on_policy", 0.25)]
    assert parts[0].start is from_data and parts[1].start == Rollout.of_jumps(4)
    loss = fm.Method(*parts).loss(flow_of(teacher), randn(8, 3))
    assert set(loss.terms) == {"lagrangian", "lagrangian_on_policy"}
    beside = on_policy(fm.methods.lsd())  # its diagonal learns from data, its jumps from itself
    assert [term.start is from_data for term in beside.terms] == [True, False] and not beside.data_free


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: fm.methods.meanflow(), {}, "needs the conditional velocity eps - x_0, which is right at x_s made of"),
        (lambda: fm.methods.flow_matching(), {}, "has no term to move on policy: its terms are diffusion"),
        (lambda: fm.methods.pid(gaussian()), {}, "has states of its own, by the function from_noise"),
        (lambda: fm.methods.dmd2(gaussian()), {}, "one for each turn"),
        (lambda: fm.methods.lmd(gaussian()), {"share": 0.0}, r"must lie in \(0, 1\], got 0"),
    ],
    ids=["meanflow", "flow_matching", "pid", "dmd2", "share"],
)
def test_refusals(make, options, message):
    with pytest.raises(ValueError, match=message):
        on_policy(make(), **options)


def test_refusals_of_other_kinds():
    with pytest.raises(TypeError, match="on-policy states are a Rollout"):
        on_policy(fm.methods.lmd(gaussian()), OnPolicy())
    with pytest.raises(TypeError, match="a Method is moved on policy"):
        on_policy(fm.methods.lmd)
    with pytest.raises(ValueError, match="jumps must be at least 1"):
        Rollout.of_jumps(0)
    partial = fm.FlowMap(Halving(), only_target=0.0)
    with pytest.raises(ValueError, match="only knows the target time 0"):
        s = torch.full((2,), 0.5, dtype=torch.float64)
        Rollout(LEVELS)(partial, pair_of(randn(2, 3), s), s)
