"""Links: fields in a hull, the value before the output, and weights of a link that go wherever a network's go."""

import copy

import pytest
import torch

import flowmaps as fm
from flowmaps.flow_map import Linked
from flowmaps.training.ema import Average
from flowmaps.velocity import averaged, constant
from tests.tokens import TokenMLP, table, token_flow

LAW = fm.exact.Categorical(table())
PATHS = [fm.path.linear, fm.path.trigonometric, fm.path.VariancePreserving()]


def hull_flow(dtype=torch.float64, link=None):
    """States (B, 2, 4) of a hull of three rows."""
    torch.manual_seed(0)
    embedding = torch.randn(3, 4, dtype=dtype)
    link = fm.links.Hull(embedding, fm.links.unit_rows) if link is None else link(fm.links.Hull(embedding))
    return fm.FlowMap(TokenMLP(2, 3, inputs=4).to(dtype), fm.Endpoint(link=link))


def grid(x):
    """Times in both directions, with both ends."""
    times = torch.tensor([0, 1e-3, 0.02, 0.3, 0.7, 1], dtype=torch.float64)
    s, t = torch.cartesian_prod(times, times).unbind(1)
    return x.repeat(36 // len(x), 1, 1), s, t


@pytest.mark.parametrize("path", PATHS, ids=["linear", "trigonometric", "preserving"])
def test_a_softmax_never_leaves_the_simplex(path):
    """The field at all (s, t), and the jump to the data from s >= min_time; below, it lies between x and the field."""
    torch.manual_seed(0)
    flow = fm.FlowMap(TokenMLP(2, 3).double(), fm.Endpoint(link=fm.links.softmax), path)
    x, s, t = grid(3 * torch.randn(4, 2, 3, dtype=torch.float64))
    field = flow.field(x, s, t)
    assert bool((field > 0).all()) and field.sum(-1).sub(1).abs().max() < 1e-12
    torch.testing.assert_close(flow(x, s, 0.0)[s >= 0.02], flow.field(x, s, 0.0)[s >= 0.02])
    onehot = LAW.sample(36)
    early = flow(onehot, s.clamp(max=0.02), 0.0)
    assert bool((early >= -1e-12).all()) and early.sum(-1).sub(1).abs().max() < 1e-9
    torch.testing.assert_close(flow.path.field(flow.average_velocity(x, s, t), x, *both(s, t))[s > 0.1], field[s > 0.1])


def both(s, t):
    return s.reshape(-1, 1, 1), t.reshape(-1, 1, 1)


def test_the_field_of_other_outputs_comes_from_the_velocity():
    flow = fm.FlowMap(TokenMLP(2, 3).double())
    x, s, t = grid(torch.randn(4, 2, 3, dtype=torch.float64))
    V = flow.average_velocity(x, s, t)
    torch.testing.assert_close(flow.field(x, s, t), x - s.reshape(-1, 1, 1) * V)
    torch.testing.assert_close(flow.value(x, s, t), V)
    for path in PATHS:
        on = fm.FlowMap(flow.network, path=path)
        later = s >= 0.02
        jumped = path.jump(on.field(x, s, t), x, *both(s, t))
        torch.testing.assert_close(jumped[later], on(x, s, t)[later])


def test_caps_bound_the_logits():
    flow = token_flow(LAW, link=fm.links.capped(fm.links.softmax, 2.0))
    with torch.no_grad():
        flow.network.layers[-1].bias.mul_(1000)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    z = fm.links.logits(flow)(flow.value(x, 0.5, 0.2))
    assert z.abs().max() <= 2 and flow.value(x, 0.5, 0.2).abs().max() > 2
    torch.testing.assert_close(flow.field(x, 0.5, 0.2), z.softmax(-1))
    assert fm.FlowMap(flow.network, fm.Endpoint(link=fm.links.tanh)).field(x, 0.5, 0.2).abs().max() <= 1


@pytest.mark.parametrize("link", [None, fm.links.capped], ids=["hull", "capped"])
def test_weights_of_a_link_are_trained_averaged_saved_and_frozen(link, tmp_path):
    flow = hull_flow(torch.float32, link)
    names = [name for name, _ in flow.named_parameters() if "embedding" in name]
    assert names == ["link.embedding" if link is None else "link.link.embedding"] and names[0] in flow.state_dict()
    assert isinstance(flow.weights, Linked) and isinstance(token_flow(LAW).weights, TokenMLP)
    x = torch.randn(4, 2, 4)
    assert flow.field(x, 0.5, 0.2).shape == x.shape and flow.value(x, 0.5, 0.2).shape == (4, 2, 3)

    average, target = Average(flow, 0.5), averaged(0.5)
    target.follow(flow)
    before = flow.link.embed(torch.eye(3))
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(1)
    target.follow(flow)
    average.update()
    bound, constants = target(flow, None), constant(flow)
    assert not torch.equal(average.flow.field(x, 0.5, 0.2), flow.field(x, 0.5, 0.2))
    for other in (average.flow, bound):
        assert not torch.equal(other.link.embed(torch.eye(3)), flow.link.embed(torch.eye(3)))
        assert not torch.equal(other.link.embed(torch.eye(3)), before)
    torch.testing.assert_close(constants.field(x, 0.5, 0.2), flow.field(x, 0.5, 0.2))
    y = x.clone().requires_grad_()
    constants.velocity(y, 0.5).sum().backward()
    assert y.grad is not None and all(weight.grad is None for weight in flow.parameters())
    twin = copy.deepcopy(flow).double()
    assert twin.link is twin.output.link and twin.link.embed(torch.eye(3).double()).dtype == torch.float64


def test_a_map_with_an_embedding_is_read_back(tmp_path):
    torch.manual_seed(0)
    network = fm.networks.MLP((2, 3), width=8, depth=1)
    for link in (
        fm.links.softmax,
        fm.links.capped(fm.links.softmax),
        fm.links.Hull(torch.randn(3, 3), fm.links.unit_rows),
    ):
        flow = fm.FlowMap(network, fm.Endpoint(0.05, link))
        fm.save(flow, path := tmp_path / "flow.safetensors")
        again, x = fm.load(path), torch.randn(4, 2, 3)
        torch.testing.assert_close(again(x, 1.0, 0.0), flow(x, 1.0, 0.0), atol=0, rtol=0)
        assert repr(again.output) == repr(flow.output) and "0x" not in repr(flow.output)
        path.unlink()


def test_earlier_descriptions_of_endpoints_stay():
    from flowmaps.serialise import build, describe

    assert describe(fm.Endpoint()) == {"type": "outputs.Endpoint", "arguments": {"min_time": 0.02}}
    assert build(describe(fm.Endpoint(link=fm.links.tanh))) == fm.Endpoint(link=fm.links.tanh)


def test_gradients_pass_through_the_embedding_and_its_scale():
    """All that CDCD trains: rows of one norm, and the embedded state."""
    torch.manual_seed(0)
    link = fm.links.Hull(torch.randn(3, 2).double(), fm.links.unit_rows)
    flow = fm.FlowMap(TokenMLP(2, 3, inputs=2).double(), fm.Endpoint(link=link), fm.path.VarianceExploding(10.0))
    fm.methods.cdcd().loss(flow, LAW.sample(8)).value.backward()
    gradient, rows = flow.link.embedding.grad, flow.link.embedding.detach()
    assert float(gradient.abs().max()) > 0
    torch.testing.assert_close((gradient * rows).sum(1), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(fm.links.unit_rows(rows).square().mean(1), torch.ones(3, dtype=torch.float64))
    found = fm.sample(flow, 10 * torch.randn(5, 2, 2, dtype=torch.float64), 4)
    assert found.shape == (5, 2, 2) and flow.value(found, 0.0, 0.0).argmax(-1).shape == (5, 2)


def test_wrong_links_and_values_are_refused():
    x = torch.randn(4, 2, 3)
    with pytest.raises(TypeError, match="a link is a function"):
        fm.Endpoint(link="softmax")
    with pytest.raises(ValueError, match="has a bounded field already"):
        fm.Bounded(fm.Endpoint(link=fm.links.softmax))
    with pytest.raises(ValueError, match=r"shape of x, \(4, 2, 3\), but it returned \(4, 2, 1\)"):
        fm.FlowMap(TokenMLP(2, 1, inputs=3), fm.Endpoint(link=fm.links.softmax))(x, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"for a value of shape \(4, 2, 3\) it gave \(4, 2, 5\)"):
        fm.FlowMap(TokenMLP(2, 3), fm.Endpoint(link=fm.links.Hull(torch.randn(3, 5))))(x, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"shape \(K, d\)"):
        fm.links.Hull(torch.randn(3, 4, 5))
    flow = fm.FlowMap(TokenMLP(2, 3, inputs=4), fm.Endpoint(link=fm.links.Hull(torch.randn(3, 4))))
    with pytest.raises(ValueError, match="at most one dimension for each class"):
        fm.methods.cdcd().loss(flow, LAW.sample(4).float())


@pytest.mark.slow
def test_a_loss_in_the_hull_compiles():
    """dfm_lsd with forward mode is one graph, with equal numbers."""
    torch.manual_seed(0)
    flow, x0 = token_flow(LAW, torch.float32, link=fm.links.capped(fm.links.Hull(torch.eye(3)))), LAW.sample(16).float()
    method = fm.methods.dfm_lsd()
    pairs = method.draw(flow, x0)
    plain = method.measure(flow, pairs).value
    compiled = torch.compile(lambda: method.measure(flow, pairs).value, fullgraph=True, backend="eager")()
    torch.testing.assert_close(compiled, plain)
