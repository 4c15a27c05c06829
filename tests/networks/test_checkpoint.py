"""Networks whose blocks keep no activations."""

import pytest
import torch

import flowmaps as fm
from flowmaps import derivative
from flowmaps.method import measure
from tests.networks.support import IMAGE, build, inputs, perturbed

pytestmark = pytest.mark.slow

MODES = {
    "jvp": derivative.jvp,
    "detached": derivative.detached,
    "separate": derivative.separate,
    "functorch": derivative.functorch,
    "finite_difference": derivative.finite_difference(),
    "time_part": derivative.time_part(),
}


def network(name, checkpoint):
    return perturbed(build(name, classes=3, checkpoint=checkpoint)).double()


def loss_and_gradients(net, mode):
    x, s, t = inputs()
    label = torch.arange(len(x)) % 3
    value, d = mode(lambda x, s, t: net(x, s, t, label), (x, s, t), (x.cos(), 1, 0))
    loss = (value + 0.3 * d).square().mean()
    return loss.detach(), torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_checkpoints_change_no_gradient_in_any_mode(name, mode):
    plain, thrifty = (loss_and_gradients(network(name, checkpoint), MODES[mode]) for checkpoint in (False, True))
    torch.testing.assert_close(thrifty, plain)


def kept(net, mode):
    """Bytes that a step keeps for its backward pass, weights not counted."""
    weights = {w.untyped_storage().data_ptr() for w in net.parameters()}
    found = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes(), x  # held, so that no other takes its place
        return x

    x, s, t = inputs(batch=16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        value, d = mode(net, (x, s, t), (x.cos(), 1, 0))
    del value, d
    return sum(size for size, _ in found.values())


@pytest.mark.parametrize("mode", ["jvp", "detached"])
@pytest.mark.parametrize("name", ["dit", "unet"])
def test_a_network_with_checkpoints_keeps_less(name, mode):
    plain, thrifty = (kept(network(name, checkpoint), MODES[mode]) for checkpoint in (False, True))
    assert thrifty < 0.5 * plain


@pytest.mark.parametrize("method", [fm.methods.meanflow(), fm.methods.lsd()], ids=repr)
def test_checkpoints_compile_into_one_graph(method):
    torch._dynamo.reset()
    net = fm.networks.DiT(IMAGE, patch=4, width=8, depth=1, heads=2, checkpoint=True)
    flow = fm.FlowMap(perturbed(net).double())
    drawn = method.draw(flow, inputs(batch=8)[0])
    compiled = torch.compile(measure, backend="aot_eager", fullgraph=True)
    got, expected = (
        torch.autograd.grad(f(flow, method.now(0.0), drawn).value, list(flow.parameters())) for f in (compiled, measure)
    )
    torch.testing.assert_close(got, expected)


def test_without_a_gradient_to_come_there_is_nothing_to_keep():
    x, s, t = inputs()
    one, other = (network("dit", checkpoint) for checkpoint in (False, True))
    with torch.no_grad():
        assert torch.equal(one(x, s, t), other(x, s, t))
