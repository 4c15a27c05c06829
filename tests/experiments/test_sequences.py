"""Runs of sequences: a head on a backbone from an array, saved, loaded, resumed, evaluated and shared by processes."""

import pytest
import torch

import flowmaps as fm
from flowmaps.experiments.films import refuse_sequences
from flowmaps.networks import WithBackbone
from tests.sequences.chain import rows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = fm.data.by_channel(fm.data.as_data(rows(64, 6, seed=0).float(), kind="vectors"))
    return fm.experiments.train(
        data, network="autoregressive", method="lsd", width=16, depth=1, batch_size=8, steps=4,
        out=tmp_path_factory.mktemp("runs") / "chain", progress_bar=False, trackers=(), sample_every=0,
    )  # fmt: skip


def test_a_loaded_run_makes_sequences(run):
    flow = fm.load(run)
    assert isinstance(flow.network, WithBackbone) and flow.units is not None and flow.trained.shape == (6, 1)
    model, noise = fm.Autoregressive.of(flow), torch.randn(3, 6, 1)
    made = model.generate(noise=noise).frames
    torch.testing.assert_close(fm.sample(flow, noise), made)
    torch.testing.assert_close(
        model.generate(made[:, :2], noise=noise[:, 2:]).frames, made[:, 2:], rtol=1e-4, atol=1e-4
    )
    assert model.generate(seed=0).frames.shape == (1, 6, 1)
    with pytest.raises(TypeError, match="no backbone"):
        fm.Autoregressive.of(fm.FlowMap(fm.networks.MLP(2, 8, 1)))


def test_it_is_evaluated_with_its_own_past_and_its_rule_with_the_true_one(run):
    flow, data = fm.load(run), fm.data.as_data(rows(64, 6, seed=0).float(), kind="vectors")
    table = fm.evaluate.evaluate(flow, data, jumps=(1,), ode_steps=(2,), n=6, draws=2)
    assert [row["network_calls"] for row in table["rows"]] == [6, 12]
    residuals = fm.evaluate.consistency_residuals(flow, data.draw(8).x0, grid=3)
    assert bool(residuals[1:, 0].isfinite().all())


def test_parts_of_a_step_give_the_same_weights(tmp_path):
    """Two accumulated parts of a batch are one batch."""
    data = fm.data.as_data(rows(64, 5, seed=0).float(), kind="vectors", standardise=False)
    ends = []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        head = fm.FlowMap(fm.networks.Head(1, context=8, width=8, depth=1))
        model = fm.Autoregressive(head, fm.networks.Recurrent(1, 8)).double()
        method = model.method(fm.methods.lsd(), repeats=2, past_noise=0.1)
        options = {"steps": 3, "batch_size": 16, "accumulate": accumulate, "progress_bar": False}
        *_, last = fm.train(model.flow, method, data, **options)
        ends.append(torch.cat([weight.flatten() for weight in last.flow.parameters()]).detach())
    torch.testing.assert_close(*ends, rtol=0, atol=1e-9)


def test_units_hold_for_all_frames(run):
    """One mean and one standard deviation for each number of a frame; others are refused, or replaced by a run."""
    assert fm.load(run).units.axis == 1 and len(fm.load(run).units.mean) == 1
    x = 5 + 3 * rows(64, 6, seed=0).float()
    data = fm.data.as_data(x, kind="vectors", standardise=True)
    model = fm.Autoregressive(fm.FlowMap(fm.networks.Head(1, 8, 8, 1)), fm.networks.Recurrent(1, 8))
    with pytest.raises(ValueError, match=r"fm.data.by_channel\(data\)"):
        next(fm.train(model.flow, model.method(fm.methods.lsd()), data, steps=1, batch_size=8, progress_bar=False))
    again = fm.data.by_channel(data)
    assert again.units.mean[0] == pytest.approx(float(x.mean()), abs=0.2)
    assert again.units.std[0] == pytest.approx(float(x.std()), abs=0.2)
    settings = {"width": 8, "depth": 1, "steps": 1, "batch_size": 8, "progress_bar": False}
    made = fm.experiments.train(data, network="autoregressive", out=run.folder.parent / "units", **settings)
    assert made.flow.units.axis == 1


def test_guidance_mixes_contexts(tmp_path):
    """A run with label dropout is sampled with guidance; other runs, and guided training, are refused."""
    x, labels = rows(64, 6, seed=0).float(), torch.arange(64) % 3
    data = fm.data.as_data((x, labels), kind="vectors", standardise=False)
    settings = {"network": "autoregressive", "width": 8, "depth": 1, "steps": 2, "batch_size": 8, "progress_bar": False}
    dropped = fm.experiments.train(data, label_dropout=0.5, out=tmp_path / "dropped", **settings)
    model, noise = fm.Autoregressive.of(dropped.flow), fm.noise(dropped.flow, 3, seed=0)
    found = fm.experiments.sample(dropped, n=3, guidance=2.0, device="cpu")
    label = torch.arange(3)
    expected = model.generate(noise=noise, condition=label, guidance=2.0, null={"label": 3}).frames
    torch.testing.assert_close(found, expected)
    plain = fm.experiments.train(data, out=tmp_path / "plain", **settings)
    with pytest.raises(ValueError, match="frame by frame has no states of the whole sequence"):
        refuse_sequences(plain.flow)
    with pytest.raises(ValueError, match="null class, which this run has not learned"):
        fm.experiments.sample(plain, n=3, guidance=2.0)
    with pytest.raises(ValueError, match="mixes contexts and is not baked"):
        fm.experiments.train(data, guidance=2.0, out=tmp_path / "guided", **settings)


def test_only_sequences_have_a_backbone():
    with pytest.raises(ValueError, match=r"needs sequences \(T, C\)"):
        fm.experiments.train(torch.randn(32, 5), network="autoregressive", steps=1)
