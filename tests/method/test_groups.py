"""Losses that couple rows: blocks stay together, and the numbers do not depend on processes and parts."""

from dataclasses import replace

import pytest
import torch

import flowmaps as fm
from flowmaps.draws import WHOLE, Rows
from tests.methods.support import Network
from tests.oracles import randn
from tests.training.support import QUIET

X0 = randn(32, 3, seed=8)


def loss_of(method, rows=Rows(), x0=X0, **options):
    """Loss and gradient of a part of the batch, with the random numbers of the whole one."""
    flow = fm.FlowMap(Network())
    torch.manual_seed(4)
    loss = method.loss(flow, rows.here(x0), rows=rows, **options).value
    return torch.cat([loss[None].detach(), *(g.flatten() for g in torch.autograd.grad(loss, flow.parameters()))])


METHODS = {
    "imm": lambda: fm.methods.imm(group=4),
    "drifting": lambda: fm.methods.drifting(group=8),
    "beside a path": lambda: fm.Method(
        fm.Term(fm.consistency.diffusion, share=0.5), replace(fm.methods.imm().terms[0], share=0.5)
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_of_blocks_is_the_mean_of_its_parts(name):
    """Loss and gradient on one process, and the means over 2 and 4 processes or accumulated parts, to rounding."""
    method = METHODS[name]()
    whole = loss_of(method)
    for every in (2, 4):
        parts = [loss_of(method, Rows(first, every, len(X0))) for first in range(every)]
        assert torch.allclose(torch.stack(parts).mean(0), whole, rtol=1e-9, atol=1e-12)
    mixed = loss_of(method, x0=X0.roll(1, 0))  # other rows come together in a block, as a control
    assert not torch.allclose(mixed[0], whole[0], rtol=1e-4)


def test_blocks_are_the_same_rows_in_every_part():
    whole = Rows(total=24).in_groups(3, "a").blocks(torch.arange(24))
    for every in (2, 4, 8):
        parts = [Rows(k, every, 24).in_groups(3, "a") for k in range(every)]
        here = [rows.blocks(rows.here(torch.arange(24))) for rows in parts]
        assert sorted(torch.cat(here).tolist()) == sorted(whole.tolist())
        assert all(torch.equal(r.joined(b), r.here(torch.arange(24))) for r, b in zip(parts, here, strict=True))
    s, t = fm.times.grouped(fm.times.uniform_triangle(), 3)(24, 0.0, torch.zeros(1))
    blocks = Rows(total=24).in_groups(3, "a").blocks(s)
    assert bool((blocks == blocks[:, :1]).all()) and len(set(s.tolist())) == len(set(t.tolist())) == 8


def test_a_block_that_would_be_split_is_refused():
    imm, whole = fm.methods.imm(group=4), fm.methods.fd_loss()
    with pytest.raises(
        ValueError, match="term distribution has 30 rows of the batch, .* no whole number of blocks of 4"
    ):
        loss_of(imm, x0=X0[:30])
    with pytest.raises(ValueError, match="blocks of 4 rows on each of 16 processes .* a multiple of 64"):
        loss_of(imm, Rows(0, 16, 32))
    with pytest.raises(
        ValueError, match="couples all rows of a batch, so that 2 processes .* one process and accumulate=1"
    ):
        loss_of(whole, Rows(0, 2, 32))
    with pytest.raises(ValueError, match="given times differ within a block"):
        loss_of(imm, times=(torch.linspace(0.5, 0.9, 32), 0.1))
    with pytest.raises(ValueError, match="7 rows are no whole number of blocks of 2"):
        fm.times.grouped(fm.times.uniform_triangle(), 2)(7, 0.0, X0)
    with pytest.raises(ValueError, match="its term needs a group"):
        fm.Method(fm.Term(fm.methods.imm().terms[0].rule)).loss(fm.FlowMap(Network()), X0)
    with pytest.raises(ValueError, match="group must be at least 0, got -1"):
        fm.Term(fm.consistency.diffusion, group=-1)
    assert WHOLE == 0 and loss_of(whole).isfinite().all()


def test_accumulated_training_has_the_same_losses():
    found = []
    for accumulate in (1, 2):
        flow = fm.FlowMap(Network().float())
        run = fm.train(flow, "imm", X0.float(), **QUIET | {"steps": 3, "batch_size": 16, "accumulate": accumulate})
        found.append([float(state.loss.value) for state in run])
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-6)
    with pytest.raises(ValueError, match="couples all rows"):
        list(fm.train(fm.FlowMap(Network().float()), "drifting", X0.float(), **QUIET | {"steps": 1, "accumulate": 2}))
