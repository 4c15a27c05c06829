"""The loop: what it yields, what it leaves alone, and how it stops when something is wrong."""

import itertools
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.runs import checkpoint
from flowmaps.training import read_metrics, train

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8, "log_every": 1}


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x, s, t):
        return self.linear(torch.cat([x, s[:, None], t[:, None]], 1))


def flow():
    torch.manual_seed(0)
    return fm.FlowMap(Linear())


GAUSSIAN = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))


def test_states_count_up_and_can_be_left():
    state = None
    for state in train(flow(), fm.methods.imf(), GAUSSIAN, steps=100, **QUIET):
        assert math.isfinite(state.loss.value) and not state.loss.value.requires_grad
        assert set(state.loss.terms) == {"diffusion", "eulerian"}
        if state.step == 4:
            break
    assert state.step == 4 and state.progress == 0.04 and not state.ema.training and state.flow.training


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    list(train(flow(), fm.methods.imf(), GAUSSIAN, steps=3, **QUIET))  # flow() seeds with 0
    torch.manual_seed(3)
    run = train(made := flow(), fm.methods.imf(), GAUSSIAN, steps=3, **QUIET)
    torch.manual_seed(3)
    list(run)
    assert torch.equal(torch.rand(4), expected) and made is not None


def test_the_average_follows_its_formula():
    weights = []
    for state in train(flow(), fm.methods.flow_matching(), GAUSSIAN, steps=5, ema=0.15, lr=0.1, **QUIET):
        weights.append(state.flow.network.linear.weight.detach().clone())
        ema = state.ema.network.linear.weight
    expected = flow().network.linear.weight.detach()
    for k, weight in enumerate(weights):
        decay = min(0.15, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * weight
    assert torch.allclose(ema, expected, atol=1e-6)


def test_a_plain_descent_step_is_what_it_says():
    one = flow()
    sgd = {"optimizer": lambda w: torch.optim.SGD(w, lr=0.5), "schedule": lambda progress: 0.2 + progress}
    loss = next(train(one, fm.methods.flow_matching(), GAUSSIAN, steps=10, **sgd, **QUIET)).loss.terms["diffusion"]
    before = flow().network.linear
    # with the residual r = W z + b - u of a linear network, and r^2 averaged over 2 coordinates, dL/db is the mean of r
    assert torch.allclose(one.network.linear.bias, before.bias - 0.5 * 0.2 * loss.residual.mean(0), atol=1e-6)


def test_schedules():
    decay = fm.training.WarmUpDecay(warmup=0.1, final=0.01)
    assert decay(0.0) == pytest.approx(0.01) and decay(0.05) == pytest.approx(0.505)
    assert decay(0.1) == pytest.approx(1.0) and decay(1.0) == pytest.approx(0.01)
    stable = fm.training.WarmUpStableDecay(warmup=0.1, decay=0.5, final=0.01)
    assert [stable(x) for x in (0.05, 0.1, 0.5)] == pytest.approx([0.505, 1.0, 1.0])
    assert [stable(x) for x in (0.75, 1.0)] == pytest.approx([0.505, 0.01])
    assert fm.training.WarmUpStableDecay(warmup=0.0)(0.0) == 1.0
    assert decay(0.55) == pytest.approx(0.505) and fm.training.constant(0.7) == 1
    with pytest.raises(ValueError, match="warmup"):
        fm.training.WarmUpDecay(warmup=1.0)


def test_a_time_budget_ends_and_counts_no_pauses():
    *_, state = train(flow(), fm.methods.flow_matching(), GAUSSIAN, seconds=0.05, **QUIET)
    assert state.seconds >= 0.05 and state.progress == 1 and state.step > 3


def test_a_budget_of_processor_time_counts_the_work_alone(monkeypatch):
    """Each step waits for the data far longer than the whole budget, and only its work counts."""
    clock = {"wall": 0.0, "work": 0.0}
    monkeypatch.setattr("time.perf_counter", lambda: clock["wall"])
    monkeypatch.setattr("time.process_time", lambda: clock["work"])

    class Waits(Linear):
        def forward(self, x, s, t):
            clock["wall"], clock["work"] = clock["wall"] + 100.0, clock["work"] + 1.0
            return super().forward(x, s, t)

    def trained(**settings):
        *_, last = train(fm.FlowMap(Waits()), fm.methods.flow_matching(), GAUSSIAN, seconds=6.0, **settings, **QUIET)
        return last.step, last.seconds

    assert trained(clock="processor") == (9, 6.0), "the first three steps do not count"
    assert trained() == (4, 100.0)


def test_the_whole_batch_is_used_and_labels_reach_a_network_that_takes_them():
    class Labelled(Linear):
        def forward(self, x, s, t, label):
            seen.append(label)
            return super().forward(x, s, t)

    seen = []
    data = (torch.randn(20, 2), torch.arange(20) % 5)
    list(train(fm.FlowMap(Labelled()), fm.methods.flow_matching(), data, steps=1, **QUIET))
    assert seen[0].shape == (8,)
    list(train(flow(), fm.methods.flow_matching(), data, steps=1, **QUIET))  # takes no label, gets none
    with pytest.raises(ValueError, match="no.*labels|none"):
        train(flow(), fm.methods.flow_matching(), GAUSSIAN, steps=1, labels=True, **QUIET)


class Poisoned(Linear):
    """Turns one row to NaN when the rows' times sum to the given call."""

    calls = 0

    def forward(self, x, s, t):
        self.calls += 1
        out = super().forward(x, s, t)
        return out.index_fill(0, torch.tensor([2]), torch.nan) if self.calls == 7 else out


def test_a_loss_that_is_no_number_stops_with_step_term_and_times(tmp_path):
    network = Poisoned()
    run = train(
        fm.FlowMap(network),
        fm.methods.flow_matching(),
        GAUSSIAN,
        steps=20,
        out=tmp_path / "run",
        checkpoint_every=3,
        **QUIET,
    )
    pattern = (
        r"the loss is nan at step 7; diffusion: its residual is not finite in 1 of 8 rows, "
        r"with s in \[0\.\d+, 0\.\d+\] and t in .*; the checkpoint of step 6 is kept"
    )
    with pytest.raises(FloatingPointError, match=pattern):
        list(run)
    kept = [path.name for path in checkpoint.complete(tmp_path / "run" / "checkpoints")]
    assert kept == ["step_00000003", "step_00000006"]
    assert all(weight.isfinite().all() for weight in fm.load(tmp_path / "run", network=Linear()).parameters())


def test_a_residual_of_one_number_a_row_is_named_too(tmp_path):
    def rule(flow, teacher, x, s, t):
        good = (flow.velocity(x, s) - teacher.velocity(x, s)).square().mean(1)
        return {"good": good, "bad": torch.where(torch.arange(len(x)) == 3, torch.inf, good)}

    def as_it_is(residual, s, t):
        return residual

    run = train(flow(), fm.Method(fm.Term(rule, weight=as_it_is)), GAUSSIAN, steps=2, **QUIET)
    with pytest.raises(
        FloatingPointError, match="at step 1; bad: its residual is not finite in 1 of 8 rows, with s in"
    ):
        list(run)
    good = fm.Method(fm.Term(lambda *given: rule(*given)["good"], name="good", weight=as_it_is))
    *_, state = train(flow(), good, GAUSSIAN, steps=2, out=tmp_path / "run", **QUIET)
    assert state.loss.terms["good"].residual.shape == (8,)
    assert [set(row["terms"]) for row in read_metrics(tmp_path / "run")] == [{"good"}] * 2


def test_weights_that_are_no_numbers_are_not_written(tmp_path):
    def poison(weights):
        weights[0].register_hook(lambda gradient: gradient / 0)
        return torch.optim.SGD(weights, lr=0.1)

    run = train(flow(), fm.methods.flow_matching(), GAUSSIAN, steps=1, out=tmp_path / "run", optimizer=poison, **QUIET)
    with pytest.raises(FloatingPointError, match="after step 1 .*not finite"):
        list(run)
    assert checkpoint.complete(tmp_path / "run" / "checkpoints") == []


def test_leaving_the_loop_keeps_everything(tmp_path):
    for state in train(flow(), fm.methods.imf(), GAUSSIAN, steps=50, out=tmp_path / "run", **QUIET):
        if state.step == 5:
            break
    assert [path.name for path in checkpoint.complete(tmp_path / "run" / "checkpoints")] == ["step_00000005"]
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5]


def test_an_error_of_the_caller_keeps_everything_too(tmp_path):
    def loop():
        for state in train(flow(), fm.methods.imf(), GAUSSIAN, steps=50, out=tmp_path / "run", **QUIET):
            if state.step == 2:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        loop()
    assert [path.name for path in checkpoint.complete(tmp_path / "run" / "checkpoints")] == ["step_00000002"]


def test_only_the_last_checkpoints_are_kept(tmp_path):
    list(train(flow(), fm.methods.imf(), GAUSSIAN, steps=9, out=tmp_path / "run", checkpoint_every=2, keep=2, **QUIET))
    assert [path.name for path in checkpoint.complete(tmp_path / "run" / "checkpoints")] == [
        "step_00000008",
        "step_00000009",
    ]
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_step_waits_for_its_end(number, tmp_path):
    class Raising(Linear):
        def forward(self, x, s, t):
            if (calls := next(count)) == 3:
                os.kill(os.getpid(), number)
            return super().forward(x, s, t) + 0 * calls

    count = itertools.count(1)
    before = signal.getsignal(number)
    run = train(fm.FlowMap(Raising()), fm.methods.flow_matching(), GAUSSIAN, steps=9, out=tmp_path / "run", **QUIET)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as left:
        list(run)
    assert number == signal.SIGINT or left.value.code == 143
    assert signal.getsignal(number) == before
    assert [path.name for path in checkpoint.complete(tmp_path / "run" / "checkpoints")] == ["step_00000003"]


def test_a_signal_between_steps_acts_at_once(tmp_path):
    run = train(flow(), fm.methods.flow_matching(), GAUSSIAN, steps=9, out=tmp_path / "run", **QUIET)

    def loop():
        for state in run:
            if state.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                raise AssertionError("not reached")

    with pytest.raises(SystemExit):
        loop()
    run.close()
    assert [path.name for path in checkpoint.complete(tmp_path / "run" / "checkpoints")] == ["step_00000002"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1], ids=lambda number: number.name)
def test_an_ignored_signal_and_a_handler_of_the_program_stay(number):
    seen = []
    for handler in (signal.SIG_IGN, lambda *_: seen.append(number)):
        before = signal.signal(number, handler)
        try:
            for _ in (states := train(flow(), fm.methods.flow_matching(), GAUSSIAN, steps=3, **QUIET)):
                os.kill(os.getpid(), number)
            assert list(states) == [] and signal.getsignal(number) is handler
        finally:
            signal.signal(number, before)
    assert seen == [number] * 3


def test_a_loop_inside_of_another_stops_at_the_end_of_its_step(tmp_path):
    outer = train(flow(), fm.methods.flow_matching(), GAUSSIAN, steps=3, **QUIET)
    next(outer)

    class Signalling(Linear):
        def forward(self, x, s, t):
            os.kill(os.getpid(), signal.SIGUSR1)
            return super().forward(x, s, t)

    inner = train(fm.FlowMap(Signalling()), fm.methods.flow_matching(), GAUSSIAN, steps=3, out=tmp_path, **QUIET)
    with pytest.raises(SystemExit) as stop:
        next(inner)
    assert stop.value.code == 75 and checkpoint.newest(tmp_path / "checkpoints") == 1
    outer.close()


def test_outside_the_main_thread_no_handler_is_installed():
    seen = []

    def work():
        for _ in train(flow(), fm.methods.flow_matching(), GAUSSIAN, steps=2, **QUIET):
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, before]


@pytest.mark.slow
def test_killed_and_resumed_from_another_process(tmp_path):
    script = textwrap.dedent(
        """
        import sys, torch, flowmaps as fm
        torch.manual_seed(0)
        flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
        data = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))
        for state in fm.train(flow, fm.methods.shortcut(), data, steps=int(sys.argv[2]), schedule=fm.training.constant,
                              out=sys.argv[1], batch_size=8, progress_bar=False, trackers=(), sample_every=0):
            print(state.step, flush=True)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run"), "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()) as process:
        for line in process.stdout:
            if line.strip() == "5":
                process.terminate()
                break
        process.stdout.read()
        assert process.wait() == 143
    [left] = checkpoint.complete(tmp_path / "run" / "checkpoints")
    step = checkpoint.read_state(left)["step"]
    assert step >= 5
    data = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))

    def small():
        torch.manual_seed(0)
        return fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)), fm.methods.shortcut()

    plan = {**QUIET, "steps": 1000000, "schedule": fm.training.constant}
    resumed = next(train(*small(), data, out=tmp_path / "run", resume=True, **plan))
    whole = next(itertools.islice(train(*small(), data, **plan), step, None))
    assert resumed.step == whole.step == step + 1
    assert all(torch.equal(a, b) for a, b in zip(resumed.ema.parameters(), whole.ema.parameters(), strict=True))


def test_arguments_that_cannot_be():
    def refused(pattern, error=ValueError, **arguments):
        with pytest.raises(error, match=pattern):
            train(flow(), fm.methods.imf(), GAUSSIAN, **{**QUIET, **arguments})

    refused("either steps= or seconds=")
    refused("either steps= or seconds=", steps=3, seconds=2.0)
    refused("steps must be at least 1", steps=0)
    refused("batch_size must be at least 1", steps=1, batch_size=0)
    refused("lr must be finite, got nan", steps=1, lr=math.nan)
    refused("precision must be", steps=1, precision="fp8")
    refused("ema must be below 1", steps=1, ema=1.0)
    refused("keep must be at least 1", steps=1, keep=0)
    refused("needs the folder", steps=1, resume=True)
    refused("tracker nonsense is unknown", ImportError, steps=1, out="unused", trackers=("nonsense",))
    with pytest.raises(ValueError, match="nothing to train"):
        train(flow().requires_grad_(False), fm.methods.imf(), GAUSSIAN, steps=1, **QUIET)


def test_a_step_that_fails_at_once_leaves_no_folder(tmp_path):
    class Wrong(Linear):
        def forward(self, x, s, t):
            return super().forward(x, s, t)[:, :1]

    with pytest.raises(ValueError, match="must return a tensor of the shape of x"):
        list(train(fm.FlowMap(Wrong()), fm.methods.imf(), GAUSSIAN, steps=3, out=tmp_path / "run", **QUIET))
    assert not (tmp_path / "run").exists()


def test_bfloat16_keeps_weights_in_float32():
    *_, state = train(flow(), fm.methods.imf(), GAUSSIAN, steps=3, precision="bf16", **QUIET)
    assert state.flow.network.linear.weight.dtype == torch.float32 and math.isfinite(state.loss.value)


def test_trackers_write_into_the_run_folder(tmp_path):
    plan = {**QUIET, "trackers": ("tensorboard",)}
    list(train(flow(), fm.methods.imf(), GAUSSIAN, steps=3, out=tmp_path / "run", **plan))
    assert list((tmp_path / "run" / "tensorboard").rglob("events.*"))


def test_a_loss_that_does_not_compile_says_so_and_trains(monkeypatch):
    def failing(function):
        def call(*args, **kwargs):
            raise torch._dynamo.exc.BackendCompilerFailed(failing, RuntimeError("no compiler"), None)

        return call

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.warns(UserWarning, match="cannot be compiled, training goes on without"):
        *_, state = train(flow(), fm.methods.imf(), GAUSSIAN, steps=2, compile=True, **QUIET)
    assert state.step == 2
