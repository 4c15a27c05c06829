"""`flowmaps.method.measure` under torch.compile: one graph for every method, with the numbers of the plain function."""

import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import flowmaps as fm
from flowmaps.method import measure
from flowmaps.methods import LANDSCAPE

pytestmark = pytest.mark.slow

ROWS = {row.name: row for row in LANDSCAPE}
LABELS = torch.arange(16) % 3
FAMILIES = {
    "flow_matching": "diffusion",
    "lsd": "Lagrangian, with a gradient through the derivative",
    "meanflow": "Eulerian, without",
    "psd": "compositional",
    "ct": "finite steps, an averaged target",
    "freeflow": "finite difference, a network beside the flow, a balance",
}


def mlp():
    return fm.networks.ConcatMLP(2, width=8, depth=1, classes=3)


def without_labels():
    return fm.networks.ConcatMLP(2, width=8, depth=1)


def dit():
    return fm.networks.DiT((1, 4, 4), patch=2, width=8, depth=1, heads=2, classes=3)


def tokens():
    return fm.networks.TokenTransformer(4, 3, width=8, depth=1, heads=2, classes=3)


def unet():
    return fm.networks.UNet((1, 4, 4), width=4, multipliers=(1,), blocks=1, classes=3)


def drawn_with(weights):
    for weight in weights:
        nn.init.normal_(weight, std=0.3)


def start(name, network=mlp, **options):
    """A flow map that the method suits, in float64, and the method."""
    row = ROWS[name]
    torch.manual_seed(0)
    path = fm.path.trigonometric if name in ("sct", "scd") else fm.path.linear
    teacher = fm.FlowMap(network(), path=path).double()
    flow = fm.FlowMap(network(), path=path, only_source=row.only_source, only_target=row.only_target).double()
    drawn_with((*teacher.parameters(), *flow.parameters()))
    if row.needs_teacher:
        options["teacher"] = teacher
    if name == "cmt":
        options["points"] = 4
    method = row.build(**options)
    method.begin(flow)
    return flow, method.double()


def batch_for(flow):
    return torch.randn(len(LABELS), *flow.network.shape, dtype=torch.float64)


def value_and_gradient(function, flow, method, drawn, progress):
    weights = [w for w in (*flow.parameters(), *method.parameters()) if w.requires_grad]
    value = function(flow, method.now(progress), drawn).value
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    return value.detach(), [torch.zeros(()) if g is None else g for g in gradients]


def check(flow, method, compiled, moments=(0.5,)):
    """The compiled loss has the value and gradient of the plain one; returns the matrix products of the plain one."""
    for progress in moments:
        method.follow(flow, progress)
        drawn = method.draw(flow, batch_for(flow), LABELS, progress=progress)
        got = value_and_gradient(compiled, flow, method, drawn, progress)
        with FlopCounterMode(display=False) as counter:
            expected = value_and_gradient(measure, flow, method, drawn, progress)
        torch.testing.assert_close(got, expected)
    return counter.get_total_flops()


def products(graph):
    """What the matrix products and convolutions of a graph cost."""
    total = 0
    for node in graph.graph.nodes:
        cost = flop_registry.get(getattr(node.target, "overloadpacket", None))
        if cost:
            seen = torch.fx.map_arg((node.args, node.kwargs), lambda argument: argument.meta["val"])
            total += cost(*seen[0], **seen[1], out_val=node.meta["val"])
    return total


class Counting:
    """A backend of torch.compile that runs the graphs as they are, and counts them."""

    def __init__(self):
        torch._dynamo.reset()
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


class CountingProducts(Counting):
    """With forward and backward pass in graphs of their own; `products`: what their matrix products cost."""

    def __init__(self):
        super().__init__()
        self.products = 0
        self.backend = aot_autograd(fw_compiler=self.run, bw_compiler=self.run)

    def __call__(self, graph, inputs):
        self.graphs += 1
        return self.backend(graph, inputs)

    def run(self, graph, inputs):
        self.products += products(graph)
        return make_boxed_func(graph.forward)


# one program while a number changes, of which torch makes the first copy for one value of it; alphaflow has three rules
PROGRAMS = {"ct": 2, "ict": 2, "ect": 2, "soflow": 2, "alphaflow": 3, "ayf_emd": 2, "sct": 2}


@pytest.mark.parametrize("name", [name for name in ROWS if name not in (*FAMILIES, *PROGRAMS)])
def test_every_other_method_is_one_graph(name):
    backend = Counting()
    check(*start(name), torch.compile(measure, backend=backend, fullgraph=True))
    assert backend.graphs == 1


@pytest.mark.parametrize(
    ("name", "network"),
    [*((name, mlp) for name in FAMILIES), ("lsd", dit), ("meanflow", dit), ("lsd", tokens), ("ct", unet)],
)
def test_a_compiled_step_does_the_products_that_are_counted_and_no_more(name, network):
    """Forward and backward pass as torch's compiler hands them to a code generator."""
    backend = CountingProducts()
    counted = check(*start(name, network), torch.compile(measure, backend=backend, fullgraph=True))
    assert backend.graphs == 1
    assert backend.products == counted


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_curriculum_does_not_compile_at_every_step(name):
    backend = CountingProducts() if name in ("soflow", "alphaflow") else Counting()
    compiled = torch.compile(measure, backend=backend, fullgraph=True)
    check(*start(name), compiled, moments=(0.05, 0.09, 0.35, 0.5, 0.65, 0.85))
    assert backend.graphs <= PROGRAMS[name]


def test_a_phase_does_not_compile_anew():
    """But for the second, in which the flow becomes its own teacher."""
    backend = Counting()
    flow, method = start("progressive_distillation", levels=6)
    check(flow, method, torch.compile(measure, backend=backend, fullgraph=True), [k / 6 + 0.01 for k in range(6)])
    assert backend.graphs == 2


def test_the_parts_of_an_accumulated_batch_share_a_program():
    """Or two more, as parts differ by a row, and so by what scales their means; not one for each."""
    backend = Counting()
    compiled = torch.compile(measure, backend=backend, fullgraph=True)
    flow, method = start("meanflow", without_labels)
    for k in range(6):
        rows = fm.draws.Rows(k, 6, 70)
        x0 = torch.randn(rows.count(70), 2, dtype=torch.float64)
        drawn = method.draw(flow, x0, rows=rows)
        got, expected = (f(flow, method.now(0.0), drawn).value for f in (compiled, measure))
        torch.testing.assert_close(got, expected)
    assert backend.graphs <= 3


def critic():
    return nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1)).double()


# what differentiates its own loss: graphs as they come, and with `trace_autograd_ops`, which training sets
SPLIT = {"denoising": 3}


@pytest.mark.parametrize(("option", "inside"), [("denoising", False), ("denoising", True), ("discriminator", True)])
def test_losses_held_in_proportion_by_their_gradients(option, inside):
    backend = Counting()
    options = {"denoising": 0.25} if option == "denoising" else {"discriminator": critic()}
    flow, method = start("ctm", without_labels, **options)
    drawn = method.draw(flow, batch_for(flow))
    with torch._dynamo.config.patch(trace_autograd_ops=inside):
        got = value_and_gradient(torch.compile(measure, backend=backend), flow, method, drawn, 0.0)
    torch.testing.assert_close(got, value_and_gradient(measure, flow, method, drawn, 0.0))
    assert backend.graphs == (1 if inside else SPLIT[option])


def test_generated_code_has_the_same_numbers():
    torch._dynamo.reset()
    flow, method = start("meanflow", without_labels)
    drawn = method.draw(flow, batch_for(flow))
    got = value_and_gradient(torch.compile(measure), flow, method, drawn, 0.0)
    torch.testing.assert_close(got, value_and_gradient(measure, flow, method, drawn, 0.0))
