"""What several processes do together besides arithmetic: log, stop, leave, spread weights, and resume as one."""

import itertools
import os
import signal
import tempfile

import pytest
import torch
import torch.distributed as dist
from torch import nn

import flowmaps as fm
from flowmaps.distributed.shards import local_part, unshard
from flowmaps.training import read_metrics, train
from tests.distributed.cases import METHODS, QUIET, network, teacher
from tests.distributed.launch import run
from tests.training.support import GAUSSIAN, Linear

pytestmark = pytest.mark.slow

PLAN = {"batch_size": 12, "steps": 6, "lr": 3e-3}


class Tied(nn.Module):
    """Two blocks, and a weight that one of them shares with the way in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.way_in = nn.Linear(4, 4).double()
        self.blocks = nn.ModuleList(nn.Linear(4, 4).double() for _ in range(2))
        self.blocks[1].weight = self.way_in.weight
        self.way_out = nn.Linear(4, 2).double()

    def forward(self, x, s, t):
        h = self.way_in(torch.cat([x, s[:, None], t[:, None]], 1)).tanh()
        for block in self.blocks:
            h = h + block(h).tanh()
        return self.way_out(h)


class Acting(Linear):
    """Does something in the third step of process 1."""

    def __init__(self, act):
        super().__init__()
        self.act, self.calls = act, 0

    def forward(self, x, s, t):
        self.calls += 1
        out = super().forward(x, s, t)
        return self.act(out) if dist.get_rank() == 1 and self.calls == 3 else out


def poison(out):
    return out.index_fill(0, torch.tensor([2]), torch.nan)


def terminate(out):
    os.kill(os.getpid(), signal.SIGTERM)
    return out


def stopped(act, **options):
    """The steps that were taken, and what ended them."""
    torch.manual_seed(0)
    steps = []
    try:
        for state in train(fm.FlowMap(Acting(act)), fm.methods.flow_matching(), GAUSSIAN, **PLAN, **options):
            steps.append(state.step)
    except (FloatingPointError, SystemExit) as error:
        return steps, type(error).__name__, str(error)
    return steps, None, None


def spread():
    """Numbers held here of the flow, its average, the target and the optimizer in training, and of all; then what is
    left of them.
    """
    flow, method, given = fm.FlowMap(network()), METHODS["phases"](), []
    for state in train(flow, method, GAUSSIAN, shard=True, **PLAN, **QUIET):
        given = [*flow.parameters(), *method.parameters(), *state.ema.parameters()]
        numbers = sum(local_part(weight).numel() for weight in given), sum(weight.numel() for weight in given)
        copied = unshard(state.ema).velocity(torch.zeros(3, 2, dtype=torch.float64), 0.5)
        if state.step == 2:
            break
    with pytest.raises(
        ValueError, match=r"were sharded over processes by an earlier run: pass training.unshard\(flow\)"
    ):
        train(flow, method, GAUSSIAN, shard=True, **PLAN, **QUIET)
    flow, method = unshard(flow), METHODS["phases"]()
    *_, state = train(flow, method, GAUSSIAN, shard=True, **PLAN, **QUIET)
    kept = [type(weight) for part in (flow, method, state.ema) for weight in part.parameters()]
    return numbers, copied.shape, set(kept), torch.equal(flow.network.input.weight, unshard(flow).network.input.weight)


def tied():
    states = train(fm.FlowMap(Tied()), fm.methods.lsd(), GAUSSIAN, **PLAN, shard=dist.is_initialized(), **QUIET)
    return [state.loss.value.item() for state in states]


def with_a_weight_unused(**options):
    flow = fm.FlowMap(network())
    flow.network.extra = nn.Linear(3, 3).double()
    states = train(flow, fm.methods.imf(), GAUSSIAN, **PLAN, **options, **QUIET)
    return [state.loss.value.item() for state in states]


def teacher_after():
    """A teacher is as it was, after training with its weights spread."""
    given = teacher()
    list(train(fm.FlowMap(network()), fm.methods.lmd(given), GAUSSIAN, shard=True, **{**PLAN, "steps": 1}, **QUIET))
    return all(torch.equal(a, b) for a, b in zip(given.parameters(), teacher().parameters(), strict=True))


def half(folder, shard):
    """A run that is left in its middle."""
    drawing = {**QUIET, "sample_every": 3}
    run = train(
        fm.FlowMap(network()), METHODS["averaged target"](), GAUSSIAN, out=folder, shard=shard, **PLAN, **drawing
    )
    return [state.loss.value.item() for state in itertools.islice(run, 3)]


def everything(folder):
    return {
        "half": [half(f"{folder}/{shard}", shard) for shard in (False, True)],
        "poison": [stopped(poison, shard=shard, **QUIET) for shard in (False, True)],
        "terminate": stopped(terminate, **{**QUIET, "log_every": 50, "out": f"{folder}/left", "checkpoint_every": 50}),
        "spread": spread(),
        "tied": tied(),
        "teacher": teacher_after(),
        "unused": [with_a_weight_unused(shard=shard) for shard in (False, True)],
        "refused": refused(),
    }


def refused():
    with pytest.raises(ValueError, match="a time budget needs a single process"):
        train(fm.FlowMap(network()), fm.methods.meanflow(), GAUSSIAN, seconds=1.0, **QUIET)
    with pytest.raises(ValueError, match="3 rows are too few for 2 processes with 2 parts each"):
        train(fm.FlowMap(network()), fm.methods.meanflow(), GAUSSIAN, steps=1, batch_size=3, accumulate=2, **QUIET)
    return True


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield path


@pytest.fixture(scope="module")
def found(folder):
    return run(everything, 2, folder)


def test_the_logged_loss_is_that_of_the_whole_batch_and_one_process_goes_on_where_two_stopped(found, folder):
    flow, method = fm.FlowMap(network()), METHODS["averaged target"]()
    alone = [state.loss.value.item() for state in train(flow, method, GAUSSIAN, **PLAN, **QUIET)]
    for index, shard in enumerate((False, True)):
        path = f"{folder}/{shard}"
        assert [row["loss"] for row in read_metrics(path)] == pytest.approx(alone[:3], rel=1e-9)
        assert os.listdir(f"{path}/samples") == ["step_00000003.png"]
        assert all(result["half"][index] == pytest.approx(alone[:3], rel=1e-9) for result in found)
        again, target = fm.FlowMap(network(seed=1)), METHODS["averaged target"]()
        *_, state = train(again, target, GAUSSIAN, out=path, resume=True, **PLAN, **QUIET)
        assert [row["loss"] for row in read_metrics(path)] == pytest.approx(alone, rel=1e-9) and state.step == 6
        ours, theirs = [*flow.parameters(), *method.parameters()], [*again.parameters(), *target.parameters()]
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", ["DDP", "shards"])
def test_a_loss_that_is_no_number_in_one_process_stops_all(found, way):
    for result in found:
        steps, kind, message = result["poison"][way == "shards"]
        assert (steps, kind) == ([1, 2], "FloatingPointError")
        assert (
            "the loss is nan at step 3; on process 1, diffusion: its residual is not finite in 1 of 6 rows" in message
        )


def test_a_signal_to_one_process_ends_the_step_for_all(found, folder):
    for result in found:
        assert result["terminate"] == ([1, 2], "SystemExit", "143")
    assert os.listdir(f"{folder}/left/checkpoints") == ["step_00000003"]


def test_each_process_holds_its_share_until_training_ends(found):
    held, numbers = zip(*(result["spread"][0] for result in found), strict=True)
    assert sum(held) == numbers[0] == numbers[1] and max(held) < 0.6 * numbers[0]
    for result in found:
        assert result["spread"][1:] == ((3, 2), {nn.Parameter}, True) and result["teacher"] and result["refused"]


def test_a_weight_that_the_loss_leaves_out_is_waited_for_by_nobody(found):
    alone = with_a_weight_unused()
    for result in found:
        assert all(losses == pytest.approx(alone, rel=1e-9) for losses in result["unused"])


def test_a_weight_with_two_places_is_spread_once(found):
    assert all(result["tied"] == pytest.approx(tied(), rel=1e-9) for result in found)
