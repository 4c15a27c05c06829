"""The heads of `benchmarks.speech` and its tables; recordings need espeak-ng and are made by the benchmark alone."""

import json

import pytest
import torch

import flowmaps as fm
from benchmarks.speech import cells, heads, report


def test_a_mixture_head_has_the_density_that_it_draws_from():
    """The mean of -log p over draws is the entropy by a grid; one number a frame."""
    torch.manual_seed(0)
    head = heads.MixtureHead(1)
    torch.nn.init.normal_(head.inner.output.weight, std=0.1)
    context = torch.randn(1, heads.BACKBONE)
    grid = torch.linspace(-40, 40, 40_001)[:, None]
    log_p = head.log_prob(grid, context.expand(len(grid), -1)).detach()
    step = 80 / 40_000
    assert (log_p.exp().sum() * step).item() == pytest.approx(1, abs=1e-3)
    flow = fm.FlowMap(head, **heads.ONE).given(context=context.expand(40_000, -1))
    drawn = fm.sample(flow, torch.randn(40_000, 1))
    found = -head.log_prob(drawn, context.expand(40_000, -1)).mean()
    entropy = -(log_p.exp() * log_p).sum() * step
    assert found.item() == pytest.approx(entropy.item(), abs=0.02)


def test_heads_of_one_value_and_of_a_density_learn_by_their_rules():
    data = fm.data.as_data(torch.randn(64, 5, 2), kind="vectors", standardise=False)
    for name in ("mean", "mixture"):
        flow, entry = heads.flow_of(name, data), heads.HEADS[name]
        method = fm.sequences.teacher_forced(entry.method(), entry.repeats, end=0.1)
        valid = torch.ones(8, 5, dtype=torch.bool)
        loss = method.loss(flow, data.draw(8).x0, {"valid": valid})
        loss.value.backward()
        assert loss.value.isfinite() and flow.network.backbone.start.first.grad.abs().sum() > 0
    x = fm.sample(heads.flow_of("mean", data), torch.randn(3, 4, 2))
    assert x.shape == (3, 4, 2)


def test_distances_of_frames_tell_laws_apart():
    """Disjoint draws of one law against another one; the standard error is below 0.01."""
    torch.manual_seed(0)
    true, other = torch.randn(4000, 4), 1.5 * torch.randn(4000, 4)
    same, apart = (sum(values) / len(values) for values in (cells.distances(true, true), cells.distances(other, true)))
    assert abs(same) < 0.01 < 0.03 < apart


def test_tables_and_marks(tmp_path):
    """A head that is as good in one jump and six times faster meets the marks; a worse one misses them."""

    def sampler(distance, seconds, share):
        spread = [distance - 0.001, distance, distance + 0.001]
        return {
            "distances": spread, "score": [distance, 0.001], "score_beyond_last": [distance - 0.01, 0.001],
            "recognised": [share, 0.01], "head_seconds": seconds, "seconds": 0.1,
        }  # fmt: skip

    for one, met in ((0.01, True), (0.5, False)):
        samplers = {report.ONE: sampler(one, 1e-3, 0.95 if met else 0.5), report.MANY: sampler(0.01, 6e-3, 0.95)}
        cell = {
            "set": "digits", "head": "flow_map", "seed": 0, "machine": "a machine", "samplers": samplers,
            "training": {"steps": 7, "seconds": 1.0},
        }  # fmt: skip
        folder = tmp_path / str(met) / "digits"
        folder.mkdir(parents=True)
        (folder / "flow_map-0.json").write_text(json.dumps(cell))
        (folder / "floor.json").write_text(json.dumps({"distances": [0.0, 0.001], "recognised": [0.97, 0.01]}))
        page = report.write(folder.parent)
        assert page.count(", met") == (6 if met else 1) and page.count(", missed") == (0 if met else 5)
        assert "6.0 times, met" in page and "| flow map" in page
