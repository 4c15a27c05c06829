"""The one-step sampler in other runtimes."""

import sys

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import export

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    network = fm.networks.MLP((1, 4, 4), 16, 2, classes=3, embedding=8)
    torch.nn.init.normal_(network.output.weight)
    return fm.FlowMap(network, fm.Bounded(fm.Endpoint()), fm.path.VarianceExploding(3.0))


def noise_and_label(rows=3):
    return torch.randn(rows, 1, 4, 4), torch.arange(rows) % 3


def test_a_program_of_torch_gives_the_same_samples(flow, tmp_path):
    noise, label = noise_and_label()
    export.to_program(flow, tmp_path / "one_step.pt2", noise, {"label": label})
    assert [path.name for path in tmp_path.iterdir()] == ["one_step.pt2"]
    program = torch.export.load(tmp_path / "one_step.pt2").module()
    for rows in (1, 2, 7):
        noise, label = noise_and_label(rows)
        expected = fm.sample(flow, 3.0 * noise, condition=label)
        torch.testing.assert_close(program(noise, label), expected, atol=1e-5, rtol=1e-5)


def test_onnx_gives_the_same_samples(flow, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    noise, label = noise_and_label()
    export.to_onnx(flow, tmp_path / "one_step.onnx", noise, {"label": label})
    session = onnxruntime.InferenceSession(tmp_path / "one_step.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["noise", "label"]
    for rows in (1, 2, 7):
        noise, label = noise_and_label(rows)
        [samples] = session.run(["samples"], {"noise": noise.numpy(), "label": label.numpy()})
        expected = fm.sample(flow, 3.0 * noise, condition=label)
        torch.testing.assert_close(torch.from_numpy(samples), expected, atol=1e-4, rtol=1e-4)


def test_what_is_missing_is_said(flow, tmp_path, monkeypatch):
    noise, label = noise_and_label()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"ONNX needs onnxruntime: pip install .\.\[onnx\]."):
        export.to_onnx(flow, tmp_path / "one_step.onnx", noise)
    with pytest.raises(ValueError, match="at least two rows, as many in each condition as in the noise"):
        export.to_program(flow, tmp_path / "one_step.pt2", noise, {"label": label[:2]})
    assert not list(tmp_path.iterdir())


def test_a_program_that_differs_is_not_kept(flow, tmp_path, monkeypatch):
    noise, label = noise_and_label()
    other = fm.FlowMap(fm.networks.MLP((1, 4, 4), 16, 2, classes=3, embedding=8), path=flow.path)
    wrong = export.program._program(other, noise, {"label": label})
    monkeypatch.setattr(export.program, "_program", lambda *_: wrong)
    with pytest.raises(ValueError, match="differs from the flow map"):
        export.to_program(flow, tmp_path / "one_step.pt2", noise, {"label": label})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["program", "onnx"])
def test_samples_have_the_units_of_the_data(tmp_path, kind):
    flow = fm.FlowMap(fm.networks.MLP(3, 16, 1, embedding=8))
    torch.nn.init.normal_(flow.network.output.weight)
    flow.units = fm.Units((5e4, -0.03, 7.0), (2e4, 1e-3, 0.0))
    noise = torch.randn(4, 3)
    if kind == "program":
        export.to_program(flow, tmp_path / "one.pt2", noise)
        got = torch.export.load(tmp_path / "one.pt2").module()(noise)
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        label = torch.arange(4) % 2
        flow = fm.FlowMap(fm.networks.MLP(3, 16, 1, classes=2, embedding=8))
        flow.units = fm.Units((5e4, -0.03, 7.0), (2e4, 1e-3, 0.0))
        export.to_onnx(flow, tmp_path / "one.onnx", noise, {"label": label})
        session = onnxruntime.InferenceSession(tmp_path / "one.onnx", providers=["CPUExecutionProvider"])
        [found] = session.run(["samples"], {"noise": noise.numpy(), "label": label.numpy()})
        got, flow = torch.from_numpy(found), flow.given(label=label)
    expected = fm.sample(flow, noise)
    assert expected[:, 0].mean() > 1e3 and expected[:, 2].eq(7).all()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


class Conditioned(nn.Module):
    """A network as a user writes it, with the number of rows by len(x)."""

    def __init__(self, *names):
        super().__init__()
        torch.manual_seed(0)
        self.names, self.first, self.last = names, nn.Linear(4 + len(names), 8), nn.Linear(8, 2)

    def forward(self, x, s, t, **given):
        told = [given[name].to(x.dtype).reshape(len(x), -1).mean(1) for name in self.names]
        h = torch.stack([s, t, *told], 1) + torch.zeros(len(x), 1)
        return self.last(torch.tanh(self.first(torch.cat([x, h], 1))))


def with_a_policy():
    policy = fm.outputs.MixturePolicy.fit(torch.randn(50, 2), components=4, substeps=2)
    network = fm.networks.MLP(2, 8, 1, embedding=8, channels_out=policy.channels)
    nn.init.normal_(network.output.weight)
    return fm.FlowMap(network, policy)


ROWS = 3
LABEL, SCALE, TEXT = torch.arange(ROWS), torch.linspace(1, 3, ROWS), torch.randn(ROWS, 4, 2)
KINDS = {
    "several conditions": (
        lambda: fm.FlowMap(Conditioned("text", "label"), fm.Position()),
        {"text": TEXT, "label": LABEL},
    ),
    "guidance-conditioned": (
        lambda: fm.FlowMap(Conditioned("label", "guidance"), guidance=fm.GuidanceSpec((1.0, 3.0), null={"label": 3})),
        {"label": LABEL, "guidance": SCALE},
    ),
    "to data alone": (lambda: fm.FlowMap(Conditioned(), only_target=0.0), {}),
    "from noise alone": (lambda: fm.FlowMap(Conditioned("label"), only_source=1.0), {"label": LABEL}),
    "another path": (lambda: fm.FlowMap(Conditioned(), fm.Rotation(), fm.path.trigonometric), {}),
    "a policy": (with_a_policy, {}),
    "a module for an output": (lambda: fm.FlowMap(Conditioned(), fm.GaussianSkip.fit(torch.randn(50, 2))), {}),
}


def expected_of(flow, noise, conditions):
    return flow.eval().given(**conditions)(noise, 1.0, 0.0).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_map_becomes_a_program_of_torch(kind, tmp_path):
    make, conditions = KINDS[kind]
    flow, noise = make(), torch.randn(ROWS, 2)
    export.to_program(flow, tmp_path / "one_step.pt2", noise, conditions)
    program = torch.export.load(tmp_path / "one_step.pt2").module()
    for rows in (1, 2, 3):
        given = {name: value[:rows] for name, value in conditions.items()}
        expected = expected_of(flow, noise[:rows], given)
        torch.testing.assert_close(program(noise[:rows], *given.values()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "kind",
    ["several conditions", "guidance-conditioned", "another path", "a policy", "a module for an output"],
)
def test_every_kind_of_operation_becomes_onnx(kind, tmp_path):
    """The other kinds give programs of `torch.export` with the same operations."""
    onnxruntime = pytest.importorskip("onnxruntime")
    make, conditions = KINDS[kind]
    flow, noise = make(), torch.randn(ROWS, 2)
    export.to_onnx(flow, tmp_path / "one_step.onnx", noise, conditions)
    session = onnxruntime.InferenceSession(tmp_path / "one_step.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["noise", *conditions]
    for rows in (1, 2, 3):
        given = {name: value[:rows] for name, value in conditions.items()}
        arrays = {name: value.numpy() for name, value in {"noise": noise[:rows], **given}.items()}
        (samples,) = session.run(["samples"], arrays)
        expected = expected_of(flow, noise[:rows], given)
        torch.testing.assert_close(torch.from_numpy(samples), expected, atol=1e-4, rtol=1e-4)


def test_a_network_that_fixes_the_number_of_rows_is_refused(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x, s, t):
            return x * torch.ones(int(x.shape[0]), 1).numpy().shape[0]

    with pytest.raises(ValueError, match="would accept 3 rows alone|torch.export cannot follow"):
        export.to_program(fm.FlowMap(Fixed()), tmp_path / "one_step.pt2", torch.randn(3, 2))
    assert not list(tmp_path.iterdir())
