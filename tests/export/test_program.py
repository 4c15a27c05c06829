"""The one-step sampler in other runtimes."""

import sys

import pytest
import torch

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
