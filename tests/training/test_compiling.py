"""Training with compile=True: the same numbers, or a message and training without."""

import math
import re
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd

import flowmaps as fm
from flowmaps.training import train
from flowmaps.training.compiling import Compiled
from tests.training.support import QUIET

COMPILE = torch.compile
DATA = fm.data.load("mixture")


class Net(nn.Module):
    """A small network with something of its own between its two layers."""

    def __init__(self, between=torch.tanh):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.between, self.last = nn.Linear(4, 8), between, nn.Linear(8, 2)

    def forward(self, x, s, t):
        return self.last(self.between(self.first(torch.cat([x, s[:, None], t[:, None]], 1))))


def trained(network, method, steps=3, **options):
    *_, state = train(fm.FlowMap(network), method, DATA, steps=steps, **{**QUIET, **options})
    return state


@pytest.fixture(autouse=True)
def compile_eagerly(monkeypatch):
    """Everything of torch's compiler but for the code that it writes in the end."""
    monkeypatch.setattr(torch, "compile", partial(COMPILE, backend="aot_eager"))
    torch._dynamo.reset()


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.slow
def test_training_compiled_is_training(precision):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        one, other = (
            trained(Net(), fm.methods.meanflow(), compile=compile, precision=precision) for compile in (True, False)
        )
    torch.testing.assert_close(one.loss.value, other.loss.value)
    torch.testing.assert_close(one.flow.state_dict(), other.flow.state_dict())


def warned(network, method):
    """What is said when a loss is trained as without compiling."""
    with pytest.warns(UserWarning) as seen:
        state = trained(network(), method, compile=True)
    torch.testing.assert_close(state.loss.value, trained(network(), method).loss.value)
    (message,) = [str(warning.message) for warning in seen if "the loss" in str(warning.message)]
    return message


@pytest.mark.slow
def test_a_loss_that_is_compiled_in_pieces_says_so():
    def splitting(h):
        return h * math.tanh(h.detach().mean().item())

    message = warned(lambda: Net(splitting), fm.methods.flow_matching())
    assert re.search(r"the loss is compiled in \d+ pieces: .*Tensor.item", message)


def test_a_network_with_dropout_is_not_compiled():
    message = warned(lambda: Net(nn.Dropout(0.5)), fm.methods.meanflow())
    assert message.endswith("the network has dropout (between), whose masks a compiled loss cannot draw twice")


@pytest.mark.parametrize("at", ["forward", "backward"])
def test_where_compiling_fails_training_goes_on_with_the_same_numbers(at, monkeypatch):
    def failing(graph, inputs):
        raise NotImplementedError("no such machine\nand more lines")

    compilers = {"fw_compiler": lambda graph, inputs: graph.forward, "bw_compiler": failing}
    backend = failing if at == "forward" else aot_autograd(**compilers)
    monkeypatch.setattr(torch, "compile", partial(COMPILE, backend=backend))
    message = warned(Net, fm.methods.meanflow())
    assert re.search("cannot be compiled, training goes on without: .*no such machine", message)


def test_an_error_of_the_network_is_no_failure_of_the_compiler():
    def wrong(h):
        raise KeyError("mine")

    with warnings.catch_warnings(), pytest.raises(Exception, match="mine"):
        warnings.filterwarnings("error", message=".*cannot be compiled")
        trained(Net(wrong), fm.methods.meanflow(), compile=True)


def test_one_warning_is_enough():
    compiled = Compiled()
    with pytest.warns(UserWarning, match="dropout") as seen:
        flow, method = fm.FlowMap(Net(nn.Dropout(0.5))), fm.methods.flow_matching()
        for _ in range(2):
            compiled(flow, method.now(0.0), method.draw(flow, torch.randn(4, 2)))
    assert len(seen) == 1
