"""Flow maps, networks and losses in a data-parallel wrapper: the gradient is right or refused."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import flowmaps as fm
from flowmaps.draws import Rows
from flowmaps.training import LossModule
from tests.distributed.cases import METHODS, network
from tests.distributed.launch import run

WITH_WEIGHTS = ("auxiliary network", "learned weight", "adversarial")
"""Methods that train weights of their own in every stage."""
PROGRESS = 0.5
REFUSED = (RuntimeError, TypeError)


def as_it_is(net, method):
    return fm.FlowMap(net)


def network_wrapped(net, method):
    return fm.FlowMap(DistributedDataParallel(net))


def flow_wrapped(net, method):
    return DistributedDataParallel(fm.FlowMap(net)).module


def flow_wrapped_and_given(net, method):
    return DistributedDataParallel(fm.FlowMap(net))


def network_sharded(net, method):
    for block in net.blocks:
        fully_shard(block)
    return fm.FlowMap(fully_shard(net))


def loss_wrapped(net, method):
    """The way it is meant: a wrapper around the whole loss."""
    flow = fm.FlowMap(net)
    method.follow(flow, PROGRESS)
    wrapped = DistributedDataParallel(LossModule(flow, method), find_unused_parameters=True)
    flow.loss = lambda x0: wrapped(method.draw(flow, x0, progress=PROGRESS), PROGRESS)
    return flow


def batch():
    """Other rows, and other random numbers, in each process."""
    torch.manual_seed(100 + dist.get_rank())
    return torch.randn(24, 2, dtype=torch.float64)


def gradients(flow, method, loss):
    loss(batch()).value.backward()
    weights = [weight for part in (flow, method) for weight in part.parameters() if weight.requires_grad]
    return torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in weights])


def outcome(name, wrap):
    """ "right", "wrong", or the refusal."""
    plain, method = fm.FlowMap(network()), METHODS[name]()

    def loss_here(x0):
        drawn = method.draw(plain, x0, progress=PROGRESS)
        return method.measure(plain, drawn, PROGRESS)

    method.follow(plain, PROGRESS)
    expected = gradients(plain, method, loss_here)
    dist.all_reduce(expected)
    method = METHODS[name]()
    flow = wrap(network(), method)
    try:
        loss = getattr(flow, "loss", lambda x0: method.loss(flow, x0, progress=PROGRESS))
        found = gradients(flow, method, loss)
    except REFUSED as error:
        return str(error)
    return "right" if torch.allclose(found, expected / 2, rtol=1e-9, atol=1e-12) else "wrong"


def outcomes():
    wraps = (as_it_is, network_wrapped, flow_wrapped, flow_wrapped_and_given, network_sharded, loss_wrapped)
    found = {(wrap.__name__, name): outcome(name, wrap) for wrap in wraps for name in METHODS}
    flow, method = fm.FlowMap(network()), fm.methods.meanflow()
    with torch.no_grad():
        found["without a gradient"] = bool(method.loss(flow, batch()).value.isfinite())
    found["with rows"] = bool(method.loss(flow, batch(), rows=Rows(dist.get_rank(), 2, 48)).value.requires_grad)
    return found


@pytest.mark.slow
def test_a_gradient_is_right_or_refused():
    for found in run(outcomes, 2):
        assert found.pop("without a gradient") and found.pop("with rows")
        expected = {
            "as_it_is": dict.fromkeys(METHODS, "would not be averaged over the processes"),
            "network_wrapped": {name: "right" for name in METHODS} | dict.fromkeys(WITH_WEIGHTS, "gradient of method."),
            "flow_wrapped": dict.fromkeys(METHODS, "computed outside a data-parallel module"),
            "flow_wrapped_and_given": dict.fromkeys(METHODS, "needs the FlowMap itself"),
            "network_sharded": dict.fromkeys(METHODS, "are sharded over processes"),
            "loss_wrapped": dict.fromkeys(METHODS, "right"),
        }
        expected["network_wrapped"] |= dict.fromkeys(("stages", "turns"), "gradient of method.")
        wrong = {key: text for key, text in found.items() if expected[key[0]][key[1]] not in text}
        assert wrong == {}


def test_alone_nothing_is_refused():
    loss = fm.methods.meanflow().loss(fm.FlowMap(network()), torch.randn(8, 2, dtype=torch.float64))
    assert loss.value.requires_grad
