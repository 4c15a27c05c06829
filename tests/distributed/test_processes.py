"""What a process does with the rows of a batch that are its own."""

import os
import signal

import pytest
import torch
from accelerate import Accelerator
from torch import nn

import flowmaps as fm
from flowmaps.distributed.processes import Processes
from flowmaps.method import Loss
from flowmaps.method.term import TermLoss
from flowmaps.training.agreement import Agreement
from flowmaps.training.interrupt import Interrupts
from tests.training.support import GAUSSIAN, QUIET, alternating, chasing, linear_flow, staged


def test_every_row_of_a_batch_is_in_one_part_of_one_process():
    batch, seen = torch.arange(23), []
    for index in range(3):
        processes = Processes(index, 3, accumulate=2)
        for k in range(2):
            rows = processes.rows(k, len(batch))
            here = batch[processes.mine][processes.part(k)]
            assert torch.equal(rows.here(batch), here) and rows.every == 6
            seen += here.tolist()
    assert sorted(seen) == batch.tolist()


def test_batches_that_cannot_be_shared():
    with pytest.raises(ValueError, match="7 rows are too few for 2 processes with 4 parts"):
        Processes(0, 2, 4).check(7)
    Processes(0, 2, 4).check(9)
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        fm.train(linear_flow(), fm.methods.imf(), GAUSSIAN, steps=1, accumulate=0, **QUIET)


def test_the_parts_of_a_process_make_one_loss():
    rows, values = torch.arange(6.0), []
    for part in (rows[::2], rows[1::2]):
        term = TermLoss(part.mean(), part[:, None], part / 10, part / 20)
        values.append(Loss(2 * term.value, {"term": term}))
    loss = Agreement(Processes(accumulate=2), torch.device("cpu"))(1, values)
    assert loss.value == 5 and loss.terms["term"].value == 2.5
    assert loss.terms["term"].residual.flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert torch.equal(loss.terms["term"].s * 10, loss.terms["term"].residual[:, 0])


@pytest.mark.parametrize(
    "make", [chasing, staged, alternating, fm.methods.shortcut, fm.methods.psd, fm.methods.meanflow]
)
def test_accumulated_parts_train_as_the_whole_batch(make):
    """16 rows in 3 parts; float64, so that what is left is not rounding."""
    runs = []
    for accumulate in (1, 3):
        flow = linear_flow().double()
        states = fm.train(flow, make(), GAUSSIAN, steps=6, clip=0.5, accumulate=accumulate, **QUIET)
        runs.append(([state.loss.value.item() for state in states], flow.network.linear.weight))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-11)
    assert torch.allclose(runs[0][1], runs[1][1], rtol=1e-10, atol=1e-12)


def test_dropout_differs_from_part_to_part():
    masks = []

    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x, s, t):
            masks.append(nn.functional.dropout(torch.ones(1000), 0.5))
            return x * self.scale

    for _ in range(2):
        next(fm.train(fm.FlowMap(Dropping()), fm.methods.flow_matching(), GAUSSIAN, steps=1, accumulate=2, **QUIET))
    assert torch.equal(masks[0], masks[2]) and torch.equal(masks[1], masks[3]) and not torch.equal(masks[0], masks[1])


def test_the_loss_is_that_of_the_coupled_noise():
    pairs = fm.data.reflow(fm.exact.Gaussian(torch.zeros(2), torch.ones(2)), fm.data.no_data((2,)), 20, steps=2)
    seen = []

    def rule(flow, teacher, x, s, t):
        seen.append((x, teacher.velocity(x, s)))
        return flow.velocity(x, s) - 0.0

    method = fm.Method(fm.Term(rule, times=lambda n, progress, like: (torch.ones(n), torch.ones(n))))
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    next(fm.train(flow, method, pairs, steps=1, batch_size=20, progress_bar=False))
    batch = next(pairs.batches(20, seed=0))
    assert torch.allclose(seen[0][0], batch.noise) and torch.allclose(seen[0][1], batch.noise - batch.x0)


def test_an_averaged_target_is_told_that_the_weights_have_moved(monkeypatch):
    """No norms are compared, for which a device would have to be waited for; the target moves all the same."""
    asked = []
    monkeypatch.setattr("flowmaps.velocity.companions._norms", lambda network: asked.append(network) or torch.zeros(1))
    flow, method, weights = linear_flow(), fm.methods.shortcut(ema=0.75), []
    expected = linear_flow().network.linear.weight
    for _ in fm.train(flow, method, GAUSSIAN, steps=4, **QUIET):
        target = next(method.parameters()).detach().clone()
        assert torch.allclose(target, expected, atol=1e-6)  # it follows before the step
        weights.append(flow.network.linear.weight.detach().clone())
        expected = 0.75 * expected + 0.25 * weights[-1]
    assert len(asked) <= 2  # when it was made


def test_launches_that_accelerate_would_get_wrong(monkeypatch):
    accelerator = Accelerator(gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="accumulates 2 gradients: pass accumulate=2 instead"):
        fm.train(linear_flow(), fm.methods.imf(), GAUSSIAN, steps=1, accelerator=accelerator, **QUIET)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started, but the accelerator of each counts 1"):
        fm.train(linear_flow(), fm.methods.imf(), GAUSSIAN, steps=1, accelerator=Accelerator(), **QUIET)


def test_a_signal_after_the_last_step_is_not_lost():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, Interrupts(Agreement(Processes(0, 2), torch.device("cpu"))) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        interrupts.leave()  # nobody has agreed about it yet
    assert left.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
