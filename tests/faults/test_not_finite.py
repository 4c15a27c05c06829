"""NaN in a batch, in a gradient, in a teacher: named with step, term, times and where it came from; never saved."""

import pytest
import torch
from safetensors.torch import load_file

import flowmaps as fm
from flowmaps.runs import checkpoint
from flowmaps.velocity import fixed
from tests.faults.children import DATA, flow, same
from tests.training.support import QUIET


class FromFive:
    """A teacher that answers NaN from the fifth question on, as long as it is `broken`."""

    def __init__(self, broken=True):
        self.broken, self.asked = broken, 0

    def velocity(self, x, t):
        self.asked += 1
        return DATA.velocity(x, t) + (torch.nan if self.broken and self.asked > 5 else 0)


def run_with(tmp_path, method=None, data=DATA, **options):
    plan = {"steps": 12, "checkpoint_every": 2, "out": tmp_path / "run", **QUIET, **options}
    return list(fm.train(flow(), method or fm.methods.imf(), data, **plan))


def taught_by(teacher):
    return fm.Method(fm.Term(fm.consistency.diffusion, fixed(teacher)), name="taught")


def kept(tmp_path):
    """The steps of the checkpoints, after a look at every number in them."""
    found = checkpoint.complete(tmp_path / "run" / "checkpoints")
    for path in found:
        for file in path.glob("*.safetensors"):
            assert all(tensor.isfinite().all() for tensor in load_file(file).values())
    return [checkpoint.read_state(path)["step"] for path in found]


def test_nan_in_a_batch(tmp_path):
    x = torch.randn(16 * 20, 2)
    data = fm.data.as_data(x)
    order = torch.cat([batch.x0 for batch, _ in zip(data.batches(16), range(5), strict=False)])
    x[(x == order[-3]).all(1)] = torch.nan  # after the look that data takes at its rows, in row 13 of the fifth batch
    message = (
        r"the loss is nan at step 5; diffusion: its residual is not finite in 1 of \d+ rows, with s in \[0.*"
        r"the batch holds values that are not finite, in rows 13: check the data; the checkpoint of step 4 is kept"
    )
    with pytest.raises(FloatingPointError, match=message):
        run_with(tmp_path, fm.methods.flow_matching(), data)
    assert kept(tmp_path) == [2, 4]


def poisoned(step):
    """Descent whose weights' gradient is NaN at one step."""

    def make(weights):
        weights, count = list(weights), iter(range(1, 100))
        weights[0].register_hook(lambda gradient: gradient * (torch.nan if next(count) == step else 1))
        return torch.optim.SGD(weights, lr=0.1)

    return make


def test_nan_in_a_gradient(tmp_path):
    message = (
        r"the loss is nan at step 6; .*with s in \[0.*weights are not finite \(network\..*weight\), so the "
        r"gradient of the step before was not finite: clip=.* may help; the checkpoint of step 4 is kept"
    )
    with pytest.raises(FloatingPointError, match=message):
        run_with(tmp_path, optimizer=poisoned(5))
    assert kept(tmp_path) == [2, 4]


def test_nan_in_the_gradient_of_a_step_that_is_to_be_saved(tmp_path):
    message = "after step 6 there are weights that are not finite, .*; the checkpoint of step 4 is kept"
    with pytest.raises(FloatingPointError, match=message):
        run_with(tmp_path, optimizer=poisoned(6))
    assert kept(tmp_path) == [2, 4]


def test_what_an_optimizer_remembers_is_not_saved_either_where_it_is_infinite(tmp_path):
    def make(weights):
        weights = list(weights)
        weights[0].register_hook(lambda gradient: gradient * 1e30)  # its square overflows, the step 1/inf does not
        return torch.optim.Adam(weights, lr=1e-3, betas=(0.0, 0.9))

    with pytest.raises(FloatingPointError, match="after step 2 there are"):
        run_with(tmp_path, optimizer=make)
    assert kept(tmp_path) == []


def test_nan_in_a_teacher_and_the_run_goes_on_once_it_is_mended(tmp_path):
    with pytest.raises(FloatingPointError) as error:
        run_with(tmp_path, taught_by(FromFive()))
    assert "at step " in str(error.value) and "its residual is not finite in" in str(error.value)
    assert "the teacher FromFive returns values that are not finite" in str(error.value)
    assert "the checkpoint of step " in str(error.value) and kept(tmp_path)
    *_, state = run_with(tmp_path, taught_by(FromFive(broken=False)), resume=True)
    *_, whole = run_with(tmp_path, taught_by(FromFive(broken=False)), out=None)
    assert state.step == 12 and same(state.flow, whole.flow)
