"""Branches of training for a GPU, on this processor: losses that are checked one step later, memory that is pinned."""

import types

import pytest
import torch

import flowmaps as fm
from flowmaps.forward_mode import flash
from flowmaps.training import agreement, learner
from flowmaps.training.compiling import Compiled
from flowmaps.velocity import fixed
from tests.training.support import GAUSSIAN, QUIET, linear_flow


class Event:
    """An event of a stream, which notes that it was waited for."""

    def __init__(self):
        self.waited, self.stream = False, None

    def record(self, stream=None):
        self.stream = stream

    def synchronize(self):
        self.waited = True


@pytest.fixture
def late(monkeypatch):
    """As if the processor were a GPU whose losses arrive late; returns the events."""
    events = []

    def copied_later(value):
        events.append(Event())
        return value.clone(), events[-1]

    monkeypatch.setattr(agreement, "LATE", ("cpu",))
    monkeypatch.setattr(agreement, "copied_later", copied_later)
    return events


def broken_at(step, rows=16):
    """Data whose batch of this step holds a NaN; the step counts from 1."""
    x = torch.randn(rows * 20, 2)
    data = fm.data.as_data(x)
    order = torch.cat([batch.x0 for batch, _ in zip(data.batches(rows), range(step), strict=False)])
    x[(x == order[-3]).all(1)] = torch.nan
    return data


@pytest.mark.parametrize("steps", [12, 5])
def test_the_batch_of_a_loss_that_is_checked_late_is_the_one_that_is_examined(late, steps):
    """At step 6 the batch is whole again, and the weights are NaN by the gradient; after step 5, at the end, too."""
    message = r"the loss is nan at step 5; .*the batch holds values that are not finite, in rows 13: check the data"
    with pytest.raises(FloatingPointError, match=message):
        fm.fit(linear_flow(), "flow_matching", broken_at(5), steps=steps, **QUIET)
    assert len(late) == 5 and all(event.waited for event in late)


class Broken:
    """A teacher that answers NaN from the fifth question on."""

    asked = 0

    def velocity(self, x, t):
        self.asked += 1
        return GAUSSIAN.velocity(x, t) + (torch.nan if self.asked > 5 else 0)


def test_a_teacher_is_named_although_the_weights_are_nan_by_now(late):
    taught = fm.Method(fm.Term(fm.consistency.diffusion, fixed(Broken())), name="taught")
    with pytest.raises(FloatingPointError, match="the loss is nan at step 6; .*the teacher Broken returns values"):
        fm.fit(linear_flow(), taught, GAUSSIAN, steps=12, **QUIET)


def test_weights_that_are_nan_in_any_case_are_not_called_the_cause(late):
    def overflow(flow, teacher, x, s, t):
        return (flow.velocity(x, s) - teacher.velocity(x, s)) * torch.inf

    method = fm.Method(fm.Term(overflow), name="overflowing")
    with pytest.raises(FloatingPointError, match="batch and teachers are finite, so the weights or this loss overflow"):
        fm.fit(linear_flow(), method, GAUSSIAN, steps=12, **QUIET)


def test_the_numbers_are_the_same_late_or_not(late):
    one, other = linear_flow(), linear_flow()
    fm.fit(one, "meanflow", GAUSSIAN, steps=4, **QUIET)
    assert len(late) == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "LATE", ())
        fm.fit(other, "meanflow", GAUSSIAN, steps=4, **QUIET)
    assert torch.equal(one.network.linear.weight, other.network.linear.weight)


def test_the_copy_is_awaited_on_the_stream_of_its_device(monkeypatch):
    """The current device may be another one, whose stream knows nothing of the copy."""
    event, empty = Event(), torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory, **options: empty(*shape, **options))
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    numbers, found = agreement.copied_later(torch.ones(3))
    assert found is event and event.stream == "stream of cpu" and numbers.tolist() == [1, 1, 1]


def test_batches_are_pinned_before_they_go_to_a_gpu(monkeypatch):
    pinned = []

    def pin(part):
        pinned.append(part.dtype)
        return part

    monkeypatch.setattr(learner, "PINNED", ("cpu",))
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    data = fm.data.as_data(torch.randn(64, 2, dtype=torch.float64), standardise=False)
    fm.fit(linear_flow(), "flow_matching", data, steps=3, **QUIET)
    assert pinned == [torch.float32] * 3, "pinned in the dtype of the weights, so that the copy does not convert"


def raised_by(module, error):
    """The error as it comes out of a function of a module."""
    function = types.FunctionType(compile("raise error", module, "exec"), {"__name__": module, "error": error})
    try:
        function()
    except Exception as found:
        return found


def test_a_gpu_without_memory_is_no_failure_of_the_compiler():
    """Compiled programs run inside the compiler's modules, and the uncompiled loss needs more memory."""
    with pytest.warns(UserWarning, match="cannot be compiled"):
        assert Compiled().give_up(raised_by("torch._inductor.output_code", RuntimeError("no kernel")))
    assert not Compiled().give_up(
        raised_by("torch._inductor.output_code", torch.OutOfMemoryError("CUDA out of memory"))
    )


def test_the_second_attempt_finds_the_memory_of_the_first_free(monkeypatch):
    """The traceback of the first error holds its activations until the error is gone."""
    import gc
    import weakref

    held = []

    class Failing(Compiled):
        def __call__(self, flow, terms, pairs):
            if self._active is not self.function:
                activations = torch.ones(3)
                held.append(weakref.ref(activations))
                raise raised_by("torch._inductor.output_code", RuntimeError("no kernel"))
            gc.collect()
            held.append(held[0]())
            return self.function(flow, terms, pairs)

    monkeypatch.setattr(learner, "Compiled", Failing)
    with pytest.warns(UserWarning, match="cannot be compiled"):
        fm.fit(linear_flow(), "flow_matching", GAUSSIAN, steps=1, compile=True, **QUIET)
    assert held[1] is None


def test_the_kernel_starts_on_the_device_of_its_tensors(monkeypatch):
    inside = []

    class Guard:
        def __init__(self, tensor):
            self.tensor = tensor

        def __enter__(self):
            inside.append(self.tensor.shape)

        def __exit__(self, *_):
            inside.append(None)

    class Kernel:
        @staticmethod
        def fwd_dual(q, k, v, **_):
            assert inside and inside[-1] == (2, 32, 32)
            return q

    monkeypatch.setattr(torch.cuda, "device_of", Guard)
    x = torch.randn(2, 32, 32)
    assert torch.equal(flash.tangent(Kernel, 1.0, False, (x, x, x), (2 * x, None, None)), 2 * x)
