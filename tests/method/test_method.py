"""Methods: shares of the batch, times, conditions, names, weights of their own, refusals."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.consistency import diffusion, eulerian
from flowmaps.method import split_rows
from flowmaps.method.term import from_data, from_noise
from flowmaps.velocity import Auxiliary, Discriminator, averaged, conditional, fixed, own
from tests.methods.support import Network, batch
from tests.oracles import PATHS, gaussian, randn

X0, EPS, (S, T) = batch()


def always(s, t):
    """Times that do not depend on chance."""
    return lambda n, progress, like: (torch.full((n,), s, dtype=like.dtype), torch.full((n,), t, dtype=like.dtype))


def two_terms(share):
    return fm.Method(
        fm.Term(diffusion, share=share, times=always(0.6, 0.6)),
        fm.Term(eulerian, conditional, share=1 - share, times=always(0.9, 0.2)),
    )


def row_losses(flow, term, x0, eps):
    """The loss of one term on each row alone."""
    pairs = (fm.velocity.Pair(x[None], e[None], flow.path, {}) for x, e in zip(x0, eps, strict=True))
    return torch.stack([term.losses(flow, term.draw(pair))[term.name].value for pair in pairs])


def gradient(value, flow):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(flow.parameters()))])


def test_a_split_batch_is_the_masked_batch_in_expectation():
    """Over all orders of four rows the split loss averages to the loss of a mask that gives each row to one term.

    Both, value and gradient, are enumerated: no chance is left.
    """
    flow, method = fm.FlowMap(Network()), two_terms(0.75)
    x0, eps = X0[:4], EPS[:4]
    losses = [row_losses(flow, term, x0, eps) for term in method.terms]
    masks = [torch.tensor(mask) for mask in set(itertools.permutations([True, True, True, False]))]
    masked = torch.stack([torch.where(mask, *losses).mean() for mask in masks]).mean()
    orders = [list(order) for order in itertools.permutations(range(4))]
    split = torch.stack([method.loss(flow, x0[o], noise=eps[o]).value for o in orders]).mean()
    torch.testing.assert_close(split, masked)
    torch.testing.assert_close(gradient(split, flow), gradient(masked, flow))


@pytest.mark.parametrize("n, share", [(5, 0.75), (3, 0.5), (2, 0.9)])
def test_shares_that_do_not_divide_the_batch_are_unbiased_too(n, share):
    flow, method = fm.FlowMap(Network()), two_terms(share)
    losses = [row_losses(flow, term, X0[:n], EPS[:n]).mean() for term in method.terms]
    orders = [list(order) for order in itertools.permutations(range(n))]
    split = torch.stack([method.loss(flow, X0[o], noise=EPS[o]).value for o in orders]).mean()
    torch.testing.assert_close(split, share * losses[0] + (1 - share) * losses[1])


def test_given_times_show_every_term_the_whole_batch():
    flow, method = fm.FlowMap(Network()), two_terms(0.75)
    loss = method.loss(flow, X0, noise=EPS, times=(S, T[:, None]))
    for term in loss.terms.values():
        assert term.residual.shape == X0.shape and torch.equal(term.s, S)
    assert torch.equal(loss.terms["eulerian"].t, T) and torch.equal(loss.terms["diffusion"].t, S)
    torch.testing.assert_close(loss.value, 0.75 * loss.terms["diffusion"].value + 0.25 * loss.terms["eulerian"].value)
    x = (1 - S)[:, None] * X0 + S[:, None] * EPS
    torch.testing.assert_close(loss.terms["diffusion"].residual, flow.velocity(x, S) - (EPS - X0))
    method.loss(flow, X0, times=(1, 0.0))


def test_weights_see_the_diagonal_as_the_diagonal():
    """The diffusion rule does not use t, but a weight w(s, t) of its rows is w(s, s), drawn or given."""
    seen = []

    def weigh(residual, s, t):
        seen.append(torch.equal(s, t))
        return residual.square().mean(1)

    for method in (
        fm.methods.meanflow(weight=weigh),
        fm.methods.splitmeanflow(fm.exact.Gaussian(torch.zeros(3)), weight=weigh),
    ):
        method.loss(fm.FlowMap(Network()), X0)
        method.loss(fm.FlowMap(Network()), X0, times=(S, T))
    assert seen == [True, False] * 4


@pytest.mark.parametrize("name", ["lsd", "esd", "psd"])
def test_self_distillation_draws_its_diagonal_uniformly(name):
    """eta U(diagonal) + (1 - eta) U(triangle), as published: mean 1/2 on the diagonal, within four standard errors."""
    diagonal, triangle = getattr(fm.methods, name)().terms
    s, t = diagonal.times(10_000, 0.0, X0)
    assert torch.equal(s, t) and abs(s.mean() - 1 / 2) < 4 / (12 * 10_000) ** 0.5
    s, t = triangle.times(10_000, 0.0, X0)
    assert abs(s.mean() - 2 / 3) < 4 / (18 * 10_000) ** 0.5 and abs(t.mean() - 1 / 3) < 4 / (18 * 10_000) ** 0.5


def test_terms_split_the_batch_without_overlap():
    flow, method = fm.FlowMap(Network()), two_terms(0.75)
    loss = method.loss(flow, X0, noise=EPS)
    first, second = loss.terms["diffusion"], loss.terms["eulerian"]
    assert (len(first.residual), len(second.residual)) == (9, 3)
    x = 0.4 * X0[:9] + 0.6 * EPS[:9]
    torch.testing.assert_close(first.residual, flow.velocity(x, 0.6) - (EPS - X0)[:9])
    torch.testing.assert_close(first.value, first.residual.square().mean())
    torch.testing.assert_close(loss.value, 0.75 * first.value + 0.25 * second.value)


@pytest.mark.parametrize("batch", [3, 4, 7, 64, 1000])
@pytest.mark.parametrize("shares", [(0.75, 0.25), (0.5, 0.3, 0.2), (0.01, 0.99), (1.0,), (0.2, 0.2, 0.2)])
def test_rows_are_split_in_proportion(batch, shares):
    counts = split_rows(batch, shares)
    assert sum(counts) == batch and min(counts) >= 1
    for count, share in zip(counts, shares, strict=True):
        exact = share / sum(shares) * batch
        assert abs(count - exact) < 1 or count == 1 or min(exact for exact in shares) * batch < 1


def test_a_batch_smaller_than_the_terms_is_refused():
    with pytest.raises(ValueError, match="a batch of 1 cannot be shared by 2 terms"):
        two_terms(0.75).loss(fm.FlowMap(Network()), X0[:1])
    assert two_terms(0.75).loss(fm.FlowMap(Network()), X0[:2]).value.isfinite()
    whole = two_terms(0.75).loss(fm.FlowMap(Network()), X0[:1], times=(0.9, 0.1))
    assert whole.value.isfinite()


def test_conditions_go_with_their_rows():
    seen = {}

    class Labelled(Network):
        def forward(self, x, s, t, label, scale):
            seen.setdefault(s[0].item(), (label, scale))
            return super().forward(x, s, t)

    label, scale = torch.arange(12), torch.tensor(3.0)
    two_terms(0.75).loss(fm.FlowMap(Labelled()), X0, {"label": label, "scale": scale})
    assert torch.equal(seen[0.6][0], label[:9]) and torch.equal(seen[0.9][0], label[9:])
    assert seen[0.6][1] is scale


def test_a_condition_that_is_a_tensor_is_the_label():
    class Labelled(Network):
        def forward(self, x, s, t, label):
            return super().forward(x, s, t) + label[:, None]

    flow, method = fm.FlowMap(Labelled()), two_terms(0.75)
    label = torch.arange(12.0).double()
    as_tensor, as_dict = (method.loss(flow, X0, c, noise=EPS).value for c in (label, {"label": label}))
    assert torch.equal(as_tensor, as_dict)
    assert flow.condition == {}


def test_terms_are_named_after_their_rules_and_stay_as_they_were():
    first, second = fm.Term(diffusion, share=0.5), fm.Term(diffusion, share=0.5)
    named = fm.Term(diffusion, share=0.5, name="auxiliary")
    assert list(fm.Method(first, second).loss(fm.FlowMap(Network()), X0).terms) == ["diffusion", "diffusion_2"]
    assert list(fm.Method(second, named).loss(fm.FlowMap(Network()), X0).terms) == ["diffusion", "auxiliary"]
    assert second.name == "diffusion"


def test_noise_is_drawn_from_the_global_generator_unless_given():
    flow, method = fm.FlowMap(Network()), fm.methods.flow_matching()
    torch.manual_seed(1)
    first = method.loss(flow, X0).value
    torch.manual_seed(1)
    assert torch.equal(first, method.loss(flow, X0).value)
    assert torch.equal(
        method(flow, X0, noise=EPS, times=(S, T)).value, method.loss(flow, X0, noise=EPS, times=(S, T)).value
    )


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_states_are_on_the_path_of_the_flow(path):
    seen = []

    class Spy(Network):
        def forward(self, x, s, t):
            seen.append((x, s))
            return super().forward(x, s, t)

    fm.methods.flow_matching().loss(fm.FlowMap(Spy(), path=path), X0, noise=EPS, times=(S, S))
    (x, s), *_ = seen
    torch.testing.assert_close(x, path.interpolate(X0, EPS, s))


def test_curricula_see_the_progress_of_training():
    rates = []

    def rule(flow, teacher, x, s, t, *, rate):
        rates.append(rate)
        return flow.velocity(x, s)

    term = fm.Term(
        rule,
        curriculum=lambda term, progress: term.given(rate=progress**2),
        times=fm.times.growing_gap(always(1.0, 0.0)),
    )
    loss = fm.Method(term).loss(fm.FlowMap(Network()), X0, progress=0.25)
    assert rates == [0.0625] and loss.terms["rule"].t[0] == 0.5


def test_learned_weights_are_parameters_of_the_method():
    learned = fm.weight.learned(8)
    method = fm.methods.lsd(weight=learned)
    assert {id(p) for p in method.parameters()} == {id(p) for p in learned.parameters()}
    method.loss(fm.FlowMap(Network()), X0).value.backward()
    assert all(p.grad is not None for p in method.parameters())
    again = fm.methods.lsd(weight=fm.weight.learned(8))
    again.load_state_dict(method.state_dict())


@pytest.mark.parametrize(
    "x0, options, message",
    [
        (X0.long(), {}, "x0 must be .*floating-point numbers.*torch.int64 of shape"),
        (X0[:, 0], {}, r"\(B, ...\), got torch.float64 of shape \(12,\)"),
        (X0, {"noise": EPS[:3]}, r"shape and the device of x0, \(12, 3\) on cpu, got \(3, 3\)"),
        (X0, {"condition": torch.zeros(7)}, r"'label' needs a row for each of the 12 of x0, got \(7,\)"),
        (X0, {"times": (1.5, 0.0)}, "source times must lie in.*got 1.5"),
        (X0, {"times": (1.0, float("nan"))}, "target times.*got nan"),
        (X0, {"times": 0.5}, r"times must be a pair \(s, t\).*got 0.5"),
        (X0, {"times": (S[:5], 0.0)}, r"got \(5,\)"),
    ],
)
def test_bad_input_is_refused(x0, options, message):
    with pytest.raises(ValueError, match=message):
        fm.methods.meanflow().loss(fm.FlowMap(Network()), x0, **options)


def test_rows_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match="x0 must be a tensor, got .*list.*torch.as_tensor"):
        fm.methods.meanflow().loss(fm.FlowMap(Network()), X0.tolist())


def test_a_term_refuses_a_share_that_is_none():
    for share in (0.0, -0.5, 1.5):
        with pytest.raises(ValueError, match=r"share of a term must lie in \(0, 1\], got"):
            fm.Term(diffusion, share=share)
    with pytest.raises(ValueError, match="at least one term"):
        fm.Method()


def test_a_network_of_another_shape_is_refused():
    class Thin(Network):
        def forward(self, x, s, t):
            return super().forward(x, s, t)[:, :1]

    with pytest.raises(ValueError, match="the network must return a tensor of the shape of x"):
        fm.methods.meanflow().loss(fm.FlowMap(Thin()), X0)


def test_partial_maps_refuse_methods_that_need_more():
    with pytest.raises(ValueError, match="only knows the target time 0"):
        fm.methods.lsd().loss(fm.FlowMap(Network(), only_target=0.0), X0)


def test_integer_times_and_single_precision():
    flow = fm.FlowMap(Network().float())
    loss = fm.methods.meanflow().loss(flow, X0.float(), times=(torch.ones(12, dtype=torch.int64), torch.tensor(0)))
    assert loss.value.dtype == torch.float32 and loss.terms["eulerian"].s.dtype == torch.float32


@pytest.mark.parametrize("shape", [(6, 1), (6, 2, 3), (6, 1, 2, 2, 2)])
def test_data_of_any_number_of_dimensions(shape):
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()).double())

        def forward(self, x, s, t):
            return x * self.weight * (s - t).reshape(-1, *[1] * (x.ndim - 1))

    for build in (fm.methods.meanflow, fm.methods.lsd, fm.methods.psd, fm.methods.esd):
        loss = build().loss(fm.FlowMap(Shift()), randn(*shape))
        assert loss.value.isfinite() and list(loss.terms.values())[0].residual.shape[1:] == shape[1:]


def test_the_source_of_a_term_sees_the_rows_of_the_term():
    rows = []

    def source(flow, pair):
        rows.append(len(pair.x0))
        return own(flow, pair)

    method = fm.Method(
        fm.Term(diffusion, source, share=0.25), fm.Term(eulerian, source, share=0.75, sources={"along": source})
    )
    method.loss(fm.FlowMap(Network()), X0)
    assert sorted(rows) == [3, 9, 9]


# --- rules with several residuals, curricula, starts, couplings -------------------------------------------------------


def both(flow, teacher, x, s, t):
    """Two residuals of one computation, of unlike shape."""
    V = flow.average_velocity(x, s, t)
    return {"jump": V - teacher.velocity(x, s), "size": V.square().sum(1, keepdim=True)}


def test_a_rule_may_have_several_residuals():
    flow, method = fm.FlowMap(Network()), fm.Method(fm.Term(both, share=0.5))
    loss = method.loss(flow, X0, noise=EPS, times=(S, T))
    V = flow.average_velocity(PATHS["linear"].interpolate(X0, EPS, S), S, T)
    assert list(loss.terms) == ["jump", "size"]
    torch.testing.assert_close(loss.terms["jump"].residual, V - (EPS - X0))
    torch.testing.assert_close(loss.terms["size"].residual, V.square().sum(1, keepdim=True))
    for term in loss.terms.values():
        assert torch.equal(term.s, S) and torch.equal(term.t, T)
        torch.testing.assert_close(term.value, term.residual.square().mean())
    torch.testing.assert_close(loss.value, 0.5 * (loss.terms["jump"].value + loss.terms["size"].value))


def test_each_residual_has_the_weight_of_its_name():
    flow = fm.FlowMap(Network())
    weights = {"jump": fm.weight.summed, "size": fm.weight.by_interval(lambda s, t: s, fm.weight.plain)}
    loss = fm.Method(fm.Term(both, weight=weights)).loss(flow, X0, noise=EPS, times=(S, T))
    jump, size = (loss.terms[name] for name in ("jump", "size"))
    torch.testing.assert_close(jump.value, jump.residual.square().sum(1).mean())
    torch.testing.assert_close(size.value, (S * size.residual[:, 0]).mean())


def test_residuals_of_one_name_in_two_terms_are_numbered():
    """As two terms of one rule are; neither is lost."""
    flow = fm.FlowMap(Network())
    term, named = fm.Term(both, share=0.25), fm.Term(diffusion, share=0.25, name="jump")
    loss = fm.Method(term, term, named).loss(flow, X0, noise=EPS, times=(S, T))
    assert list(loss.terms) == ["jump", "size", "jump_2", "size_2", "jump_3"]
    assert torch.equal(loss.terms["jump_2"].residual, loss.terms["jump"].residual)
    torch.testing.assert_close(loss.value, 0.25 * sum(term.value for term in loss.terms.values()))
    names = [fm.Term(diffusion, share=0.2, name=name) for name in ("a", "a_2", "a", "a")]
    assert [term.name for term in fm.Method(*names).terms] == ["a", "a_2", "a_3", "a_4"]


def test_a_balance_that_fits_no_loss_is_refused():
    for rule in (both, diffusion):
        term = fm.Term(rule, balance={"jmp": fm.balance.residual_ratio()})
        with pytest.raises(
            ValueError, match=r"balance of \['jmp'\] matches no loss of this term: (jump, size|diffusion)"
        ):
            fm.Method(term).loss(fm.FlowMap(Network()), X0)


def test_learned_weights_by_name_are_parts_of_the_method():
    first, second = fm.weight.learned(8), fm.weight.learned_cauchy(8)
    method = fm.Method(fm.Term(both, weight={"jump": first, "size": second}))
    expected = {id(p) for part in (first, second) for p in part.parameters()}
    assert {id(p) for p in method.parameters()} == expected and len(expected) == 4


def test_a_residual_without_a_weight_is_named():
    with pytest.raises(ValueError, match="no weight for 'size', only for jump"):
        fm.Method(fm.Term(both, weight={"jump": fm.weight.squared})).loss(fm.FlowMap(Network()), X0)


def test_one_part_in_several_places_is_one_part():
    learned, target = fm.weight.learned(8), averaged(0.9)
    term = fm.Term(eulerian, target, share=0.5, weight=learned, sources={"along": target})
    method = fm.Method(term, term)
    assert list(method.parts) == [target, learned] and list(method.children()) == [method.parts]


def test_a_curriculum_is_the_term_of_the_moment():
    """Rule, times and weight of that moment, from the term as it was given."""
    flow = fm.FlowMap(Network())

    def now(term, progress):
        late = progress >= 0.5
        weight = fm.weight.summed if late else fm.weight.squared
        return replace(term, rule=eulerian if late else diffusion, times=always(0.5 + progress / 2, 0.0), weight=weight)

    term = fm.Term(diffusion, times=always(0.1, 0.1), curriculum=now, name="changing")
    method = fm.Method(term)
    for progress, rule, factor in ((0.0, diffusion, 1), (0.4, diffusion, 1), (0.5, eulerian, 3), (1.0, eulerian, 3)):
        seen = method.loss(flow, X0, noise=EPS, progress=progress).terms["changing"]
        s = torch.full((12, 1), 0.5 + progress / 2).double()
        teacher = fm.velocity.Conditional(fm.velocity.Pair(X0, EPS, flow.path, {}))
        expected = rule(flow, teacher, flow.path.interpolate(X0, EPS, s), s, 0 * s)
        torch.testing.assert_close(seen.residual, expected)
        torch.testing.assert_close(seen.value, factor * expected.square().mean())
    assert term.at(1.0).rule is eulerian and term.rule is diffusion and fm.Term(diffusion).at(0.5).curriculum is None


def test_a_curriculum_may_not_break_a_rule():
    """What a term refuses when it is made it refuses when it changes."""
    term = fm.Term(diffusion, curriculum=lambda term, progress: replace(term, rule=fm.consistency.lagrangian))
    with pytest.raises(ValueError, match="Lagrangian rule evaluates the velocity"):
        fm.Method(term).loss(fm.FlowMap(Network()), X0)


def test_couplings_choose_the_data_that_belong_to_the_noise():
    flow, order = fm.FlowMap(Network()), torch.arange(12).flip(0)
    term = fm.Term(diffusion, couple=lambda pair: replace(pair, x0=pair.x0[order]))
    found = fm.Method(term).loss(flow, X0, noise=EPS, times=(S, S))
    expected = fm.Method(fm.Term(diffusion)).loss(flow, X0[order], noise=EPS, times=(S, S))
    assert torch.equal(found.value, expected.value)
    assert torch.equal(found.terms["diffusion"].residual, expected.terms["diffusion"].residual)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_starts(path):
    pair = fm.velocity.Pair(X0, EPS, path, {})
    torch.testing.assert_close(from_data(gaussian(), pair, S), path.interpolate(X0, EPS, S))
    noise = path.sigma(torch.ones(()).double()) * EPS
    torch.testing.assert_close(from_noise(gaussian(), pair, torch.ones(12).double()), noise)
    some = torch.where(torch.arange(12) < 6, torch.ones_like(S), S)
    expected = torch.cat([noise[:6], path.interpolate(X0, EPS, S)[6:]])
    torch.testing.assert_close(from_noise(gaussian(), pair, some), expected)


def jump_from_noise(flow, teacher, x, s, t):
    return flow.average_velocity(x, s, t) - teacher.velocity(x, s)


def data_free(**options):
    at_noise = fm.times.from_noise(fm.times.uniform_triangle())
    options = {"velocity": fixed(gaussian()), "times": at_noise, "start": from_noise} | options
    return fm.Term(jump_from_noise, **options)


def test_values_of_the_data_do_not_enter_a_method_without_data():
    flow, method = fm.FlowMap(Network()), fm.Method(data_free())
    torch.manual_seed(1)
    nothing = method.loss(flow, torch.full_like(X0, float("nan")))
    torch.manual_seed(1)
    something = method.loss(flow, X0)
    assert nothing.value.isfinite() and torch.equal(nothing.value, something.value)
    nothing.value.backward()
    assert all(p.grad.isfinite().all() for p in flow.parameters())
    torch.testing.assert_close(
        method.loss(flow, X0 / 0, noise=EPS, times=(1.0, 0.25)).value,
        (flow.average_velocity(EPS, 1.0, 0.25) - gaussian().velocity(EPS, 1.0)).square().mean(),
    )
    mixed = torch.where(torch.arange(12) < 6, torch.ones_like(S), S)
    broken = torch.where(mixed[:, None] == 1, float("nan"), X0)  # rows from noise do not need theirs
    assert method.loss(flow, broken, noise=EPS, times=(mixed, T)).value.isfinite()


def test_a_method_knows_whether_it_reads_data():
    reads = [
        fm.Term(diffusion),
        fm.Term(diffusion, fixed(gaussian())),
        data_free(velocity=conditional),
        data_free(sources={"along": conditional}),
    ]
    for term in reads:
        assert term.reads_data and not fm.Method(term).data_free
        assert not fm.Method(data_free(), term).data_free
    for velocity in (fixed(gaussian()), own, averaged(0.9)):
        assert not data_free(velocity=velocity).reads_data and fm.Method(data_free(velocity=velocity)).data_free
    assert fm.Method(data_free(), data_free()).data_free


def test_a_method_lists_the_networks_beside_the_flow():
    auxiliary, judge = Auxiliary(), Discriminator(nn.Linear(3, 1))
    terms = (
        fm.Term(diffusion, sources={"auxiliary": auxiliary}),
        fm.Term(diffusion, averaged(0.9), sources={"auxiliary": auxiliary, "judge": judge}),
    )
    assert fm.Method(*terms).auxiliaries == [auxiliary, judge] and fm.Method(fm.Term(diffusion)).auxiliaries == []


def test_sources_reach_the_rule_under_their_names_bound_to_the_condition():
    seen = {}

    class Labelled(Network):
        def forward(self, x, s, t, label):
            return super().forward(x, s, t) + label[:, None]

    def rule(flow, teacher, x, s, t, *, along, against):
        seen.update(along=along.velocity(x, s), against=against.velocity(x, s), x=x)
        return flow.velocity(x, s)

    flow, label = fm.FlowMap(Labelled()), torch.arange(12).double()
    method = fm.Method(fm.Term(rule, sources={"along": own, "against": fixed(gaussian())}))
    method.loss(flow, X0, label, noise=EPS, times=(S, T))
    torch.testing.assert_close(seen["along"], flow.given(label=label).velocity(seen["x"], S))
    torch.testing.assert_close(seen["against"], gaussian().velocity(seen["x"], S))


def test_a_method_is_shown_by_its_name_and_terms():
    method = fm.Method(fm.Term(diffusion, share=0.75), fm.Term(both, share=0.25), name="mine")
    assert repr(method) == "mine(diffusion: 0.75, both: 0.25)" and fm.Method(fm.Term(diffusion)).name == "method"
