"""Random numbers do not depend on how many parts share a batch."""

import itertools

import pytest
import torch

import flowmaps as fm
from flowmaps.draws import Rows, normal, uniform
from flowmaps.methods import LANDSCAPE
from tests.methods.support import Network, build
from tests.oracles import gaussian

BATCH = 64
X0 = torch.randn(BATCH, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
METHODS = {row.name: lambda name=row.name: build(name, gaussian()) for row in LANDSCAPE} | {
    "stages": lambda: fm.Stages((0.5, fm.methods.meanflow()), (0.5, fm.methods.psd())),
    "uneven shares": lambda: fm.methods.meanflow(diagonal=0.6),
    "a learned weight": lambda: fm.methods.meanflow(weight=fm.weight.learned()),
}


class Mean:
    """The mean over parts that are computed one after another: in a first round values are collected, in a second one
    they are known.
    """

    def __init__(self):
        self.collected, self.known = {}, {}

    def part(self):
        calls = itertools.count()

        def mean(value):
            call = next(calls)
            self.collected.setdefault(call, []).append(value)
            return self.known.get(call, value)

        return mean

    def next_round(self):
        self.known = {call: torch.stack(values).mean(0) for call, values in self.collected.items()}


def measured(method, flow, every):
    """Value and gradient: the mean over the parts of a batch."""
    mean = Mean()
    parts(method, flow, every, mean)
    mean.next_round()
    values, gradients = zip(*parts(method, flow, every, mean), strict=True)
    return torch.stack(values).mean(), torch.stack(gradients).mean(0)


def parts(method, flow, every, mean):
    """Value and gradient of each part."""
    found = []
    for first in range(every):
        torch.manual_seed(3)
        rows = Rows(first, every, BATCH, mean.part())
        value = method.loss(flow, X0[first::every], progress=0.3, rows=rows).value
        weights = [*flow.parameters(), *(w for w in method.parameters() if w.requires_grad)]
        gradients = torch.autograd.grad(value, weights, materialize_grads=True)
        found.append((value.detach(), torch.cat([g.flatten() for g in gradients])))
    return found


@pytest.mark.parametrize("name", METHODS)
def test_the_parts_of_a_batch_make_the_loss_of_the_whole(name):
    torch.manual_seed(0)
    method, flow = METHODS[name]().double(), fm.FlowMap(Network(seed=1))
    method.follow(flow)
    value, gradient = measured(method, flow, 1)
    assert gradient.norm() > 0
    for every in (2, 4):
        found, its = measured(method, flow, every)
        torch.testing.assert_close(found, value, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(its, gradient, rtol=1e-9, atol=1e-11)


def test_parts_of_different_size_make_the_whole_too():
    """64 rows in three parts, of which a term of 16 rows has 6, 5 and 5."""
    flow, method = fm.FlowMap(Network(seed=1)), fm.methods.meanflow()
    value, gradient = measured(method, flow, 1)
    found, its = measured(method, flow, 3)
    torch.testing.assert_close(found, value, rtol=1e-11, atol=0)
    torch.testing.assert_close(its, gradient, rtol=1e-9, atol=1e-12)


def test_rows_of_every_part_are_those_of_the_whole():
    whole = torch.arange(23)
    parts = [Rows(first, 4, 23) for first in range(4)]
    assert sorted(torch.cat([rows.here(whole) for rows in parts]).tolist()) == whole.tolist()
    assert [len(rows) for rows in parts] == [len(rows.here(whole)) for rows in parts] == [6, 6, 6, 5]
    assert sum(rows.scale for rows in parts) == pytest.approx(4)
    for rows in parts:  # rows 5 to 17 of the whole
        assert torch.equal(
            rows.of(13, offset=5).here(whole[5:18]), rows.here(whole)[(rows.here(whole) >= 5) & (rows.here(whole) < 18)]
        )


def test_all_rows_by_default():
    whole = torch.arange(5)
    assert torch.equal(Rows().here(whole), whole) and Rows().scale == 1 and Rows(total=5).scale == 1


def test_numbers_have_the_shape_and_type_of_rows():
    like = torch.zeros(2, 3, 4, dtype=torch.bfloat16)
    assert normal(7, like).shape == (7, 3, 4) and normal(7, like).dtype == torch.bfloat16
    assert uniform(7, like).shape == (7, 1, 1) and uniform(7, like).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rows(2, 2, 8), "expected 0 <= first < every, got first=2 and every=2"),
        (lambda: Rows(0, 2), "Give total="),
        (lambda: fm.methods.meanflow().loss(fm.FlowMap(Network()), X0, rows=Rows(0, 2, 64)), "are 32, got 64"),
        (
            lambda: fm.methods.meanflow().loss(fm.FlowMap(Network()), X0[:2], rows=Rows(0, 4, 8)),
            "no row for the term eulerian, which has 2: take a larger batch",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_trajectories_that_parts_cannot_share_are_refused():
    """48 rows have three trajectories of sixteen: three parts have one each, two cannot share them."""
    method, flow = fm.methods.cmt(gaussian()), fm.FlowMap(Network())
    method.loss(flow, X0[:16], rows=Rows(0, 3, 48))
    with pytest.raises(ValueError, match="2 .* cannot share the 3 trajectories of 48 rows: .* multiple of 32 rows"):
        method.loss(flow, X0[:24], rows=Rows(0, 2, 48))
