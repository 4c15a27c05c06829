"""The benchmark of texts: baselines have the loss and the law that they should, and marks follow from cells."""

import json
import math

import pytest
import torch

import flowmaps as fm
from benchmarks.text import baselines, cells, report
from benchmarks.text.models import EULER, FLOOR, JUMPS, MODELS
from flowmaps.draws import Rows
from flowmaps.figures.words import plus_minus
from flowmaps.velocity import Pair

LAW = fm.exact.Categorical([[0.35, 0.05], [0.2, 0.4]])
"""Words of two symbols with two values each."""


class Answer(torch.nn.Module):
    """Logits of the right answer for given inputs: of a symbol given the symbols that are not zero."""

    def __init__(self, causal):
        super().__init__()
        self.causal = causal
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, s, t):
        table = LAW.table.to(x)
        p = torch.empty_like(x)
        if self.causal:  # x holds the symbols before each position
            p[:, 0] = table.sum(1)
            p[:, 1] = x[:, 1] @ (table / table.sum(1, keepdim=True))
        else:
            known = x.sum(-1, keepdim=True)
            first, second = table / table.sum(1, keepdim=True), table / table.sum(0)
            p[:, 0] = torch.where(known[:, 1] > 0, x[:, 1] @ second.T, table.sum(1))
            p[:, 1] = torch.where(known[:, 0] > 0, x[:, 0] @ first, table.sum(0))
        return p.clamp(min=1e-30).log() * self.scale


def flow(causal):
    return fm.FlowMap(Answer(causal), fm.Endpoint(link=fm.links.softmax))


def rows():
    words = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    return torch.nn.functional.one_hot(words, 2).double()


def test_an_autoregressive_model_is_exact_and_samples_its_law():
    found = baselines.exact_nats(flow(True), rows())
    torch.testing.assert_close(found, -LAW.table.flatten().to(found).log())
    x = baselines.write_out(flow(True), 4000, (2, 2))
    assert fm.evaluate.table_tv(x, LAW) < 4 * 0.5 * (4 / 4000) ** 0.5
    loss = baselines.autoregressive().loss(flow(True), rows().float()).value
    torch.testing.assert_close(loss, -LAW.table.log().mean().to(loss))


def test_masked_diffusion_has_the_entropy_as_its_bound():
    """With the right answers the bound is an equality in the mean over the data; a wrong model is above it."""
    torch.manual_seed(0)
    x0 = LAW.sample(4000)
    for scale, above in ((1.0, 0.0), (0.0, 2 * math.log(2) - LAW.entropy)):
        made = flow(False)
        torch.nn.init.constant_(made.network.scale, scale)
        nats = baselines.masked_bound(made, x0, 16)
        error = float(nats.std()) / 4000**0.5
        assert abs(float(nats.mean()) - LAW.entropy - above) < 4 * error + 4e-3  # times begin at a thousandth
    x = baselines.fill_in(flow(False), 4000, (2, 2), 64)
    assert bool((x.sum(-1) == 1).all())
    assert fm.evaluate.table_tv(x, LAW) < 4 * 0.5 * (4 / 4000) ** 0.5 + 0.02  # two symbols in one of 64 steps


def test_symbols_are_masked_with_the_probability_of_the_time():
    x0, s = LAW.sample(1).expand(6000, 2, 2), torch.full((6000,), 0.3)
    masked = baselines.masked_rows(None, Pair(x0, torch.randn(6000, 2, 2), fm.path.linear, {}, rows=Rows()), s)
    share = float((masked.sum(-1) == 0).double().mean())
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 12_000) ** 0.5


def cell(model, way, counts, tv):
    """A cell of a model whose samples are this far from the text."""
    number = {"mean": tv, "stderr": 0.01}
    same = {"tv": number, "entropy": {"mean": 2.4, "stderr": 0.0}, "valid": number, "texts": ["in the beginning"]}
    made = [{"way": way, "calls": calls, **same} for calls in counts]
    about = {"model": model, "seed": 0, "machine": "a machine", "training": {"steps": 10, "seconds": 1.0}}
    return {**about, "bits": {"mean": 2.0, "stderr": 0.104}, "rows": made}


@pytest.mark.parametrize(("jumps", "says"), [(0.3, "met"), (0.5, "missed")])
def test_marks_compare_jumps_with_the_steps_of_the_same_map(tmp_path, jumps, says):
    (tmp_path / "kjv-32").mkdir()
    made = cell("dfm_psd", "jumps", JUMPS, jumps)
    made["rows"] += cell("dfm_psd", "euler", EULER, 0.4)["rows"]
    made["rows"][-1]["valid"] = {"mean": math.nan, "stderr": math.nan}  # spaces alone
    for name, content in (("dfm_psd", made), (FLOOR, cell(FLOOR, "training", (0,), 0.1))):
        (tmp_path / "kjv-32" / f"{name}-0.json").write_text(json.dumps(content))
    marks = [line for line in report.write(tmp_path).splitlines() if "kjv-32" in line]
    assert [line.split("|")[-2].strip().split()[-1] for line in marks] == [says, "met", says]
    text = (tmp_path / "kjv-32.md").read_text()
    assert f"at most {plus_minus(2.0, 0.104)}" in text and "other windows of the training text" in text
    assert text.count("no words") == 1
    assert (tmp_path / "kjv-32.png").stat().st_size > 1000
    assert report.write(tmp_path / "none").count("not measured") == 4


def test_models_have_the_columns_of_the_marks():
    for name, model in MODELS.items():
        ways = {way for way, _ in model.samplers}
        assert ways <= set(report.WAYS), name
        if "jumps" in ways:
            assert {("jumps", 1), ("jumps", 4), ("euler", 64), ("euler", 256)} <= set(model.samplers)


def test_a_finished_training_is_read_again(tmp_path, monkeypatch):
    data = fm.data.tokens(torch.randint(0, 2, (64, 4), generator=torch.Generator().manual_seed(0)), 2)
    monkeypatch.setattr(cells, "data_of", lambda name: data)
    run = cells.Cells(tmp_path / "out", tmp_path / "runs", seconds=0.2)
    flow, spent = run.trained("kjv-32", "diffusion", 0)
    again, same = run.trained("kjv-32", "diffusion", 0)
    assert spent == same and spent["steps"] > 0
    assert all(torch.equal(one, other) for one, other in zip(flow.parameters(), again.parameters(), strict=True))
