"""Log-densities under a run: rows, conditions, numbers, warnings and the record, against fm.likelihood itself."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.data.transforms import dequantised
from flowmaps.draws import mixed, seeded_by
from flowmaps.experiments import likelihood
from flowmaps.experiments.likelihood_estimate import averaged
from flowmaps.experiments.likelihood_estimators import check_fits, estimators_of, passes_of, usual_for
from flowmaps.experiments.likelihood_table import auroc
from flowmaps.experiments.run_folder import LIKELIHOOD
from flowmaps.likelihood import LogProb
from flowmaps.runs.likelihood_record import read_likelihood_record
from flowmaps.runs.lock import FolderLock
from flowmaps.trained import TrainedSpec

pytestmark = pytest.mark.slow

TINY = {"steps": 1, "width": 8, "depth": 1, "batch_size": 8, "sample_every": 0, "progress_bar": False, "trackers": ()}
SHORT = fm.likelihood.ode(fm.likelihood.exact(64), fm.likelihood.grid(1, fm.likelihood.euler))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on points, and on digits with labels: all of them, and some dropped."""
    folder = tmp_path_factory.mktemp("runs")
    train = experiments.train
    return {
        "points": train("eight_gaussians", out=folder / "points", **TINY).folder,
        "digits": train("digits", out=folder / "digits", **TINY).folder,
        "dropped": train("digits", method="flow_matching", label_dropout=0.2, out=folder / "dropped", **TINY).folder,
    }


def numbers(table):
    """The rows of a table by estimator and kind of rows."""
    return {(row.by, row.rows): row for row in table.rows}


def test_points_are_the_log_densities_of_the_flow(runs):
    table = likelihood(runs["points"], n=20, seed=3, by="ode:2")
    data, flow = fm.data.load("eight_gaussians"), fm.load(runs["points"])
    torch.testing.assert_close(table.x["held-out"], data.held_out(20, 3).x0)
    for kind, x in table.x.items():
        value = fm.likelihood.log_prob(flow, x, by=fm.likelihood.ode(steps=2)).value
        torch.testing.assert_close(table.values["ode:2"][kind], value)
        row = numbers(table)["ode:2", kind]
        assert row.nats == pytest.approx(float(value.mean()), rel=1e-5) and row.per_value == pytest.approx(row.nats / 2)
        assert row.stderr == pytest.approx(float(value.std()) / 20**0.5, rel=1e-4)
        assert (row.n, row.passes, row.bits, row.error, row.folded) == (20, 24, None, None, 0)
    assert list(table.x) == ["held-out", "random"] and "no training rows" in table.notes[0]
    random = likelihood(runs["points"], n=2000, by=SHORT).x["random"]
    assert abs(float(random.std()) / float(data.draw(4000).x0.std()) - 1) < 0.06


def test_a_run_on_dequantised_images_begins_at_the_data(tmp_path):
    data = dequantised(fm.data.load("digits"))
    options = {"steps": 1, "batch_size": 8, "labels": False, "progress_bar": False, "trackers": ()}
    for _ in fm.train(fm.recipes.small_images(data, width=8, depth=1), "imf", data, out=tmp_path / "run", **options):
        pass
    table = likelihood(tmp_path / "run", by="bound:2", n=3, seed=1)
    asked = likelihood(tmp_path / "run", by="bound:2", n=3, seed=1, start=0.0)
    assert table.notes == asked.notes and "Uniform noise fills the gaps between the 17 levels" in table.notes[0]
    assert table.levels == 17
    for kind, values in table.values["bound:2"].items():
        assert torch.equal(values, asked.values["bound:2"][kind])


def test_images_begin_where_noise_fills_the_gaps(runs):
    table = likelihood(runs["digits"], n=6, by=[SHORT, "bound:8"])
    x, flow = table.x["held-out"], fm.load(runs["digits"])
    grey = (x + 1) * 8
    assert torch.equal(grey, grey.round()) and table.levels == 17 and "t = 0.0204" in table.notes[0]
    value = table.values["ode"]["held-out"]
    rows = numbers(table)
    bits = -value.double() / (64 * math.log(2)) + 3
    assert rows["ode", "held-out"].bits == pytest.approx(float(bits.mean()), rel=1e-5)
    again = [likelihood(runs["digits"], n=6, by=SHORT, seed=seed).values["ode"]["held-out"] for seed in (0, 1)]
    assert torch.equal(again[0], value) and not torch.equal(again[1], value)
    label = fm.data.load("digits").held_out(6, 0).label
    with seeded_by(torch.device("cpu"), mixed(0, 0)):
        state, t, change = fm.likelihood.noised(x, 17)
    by_hand = fm.likelihood.log_prob(flow, state, by=replace(SHORT, start=t), condition=label).value + change
    torch.testing.assert_close(by_hand, value)
    assert rows["bound:8", "held-out"].error > 0 and rows["bound:8", "held-out"].passes == 8
    assert set(table.x) == {"held-out", "training", "random"} and rows["ode", "random"].auroc is not None


def test_uniform_noise_in_the_gaps_for_runs_that_were_trained_on_it(runs):
    table = likelihood(runs["digits"], n=6, by=[SHORT, "bound:8"], start=0)
    label, flow = fm.data.load("digits").held_out(6, 0).label, fm.load(runs["digits"])
    with seeded_by(torch.device("cpu"), mixed(0, 0)):
        state = fm.likelihood.dequantised(table.x["held-out"], 17)
    with seeded_by(torch.device("cpu"), mixed(0, 0)):
        bound = fm.likelihood.log_prob(flow, state, by=fm.likelihood.bound(8), condition=label).value
    torch.testing.assert_close(table.values["bound:8"]["held-out"], bound)
    ode = fm.likelihood.log_prob(flow, state, by=SHORT, condition=label).value
    torch.testing.assert_close(table.values["ode"]["held-out"], ode)
    assert table.rows[0].bits is not None and "trained on such rows" in table.notes[0]
    later = likelihood(runs["digits"], n=6, by=[SHORT, "bound:8"], start=0.1)
    assert later.rows[0].bits is None and later.levels is None


def test_classes_of_rows_one_class_and_all(runs):
    """p(x) of a run that knows no null class is the mean of p(x | class), with its most probable class."""
    own, all_classes = (likelihood(runs["digits"], n=4, by=SHORT, labels=labels) for labels in (True, False))
    each = torch.stack(
        [likelihood(runs["digits"], n=4, by=SHORT, label=k).values["ode"]["held-out"] for k in range(10)]
    )
    torch.testing.assert_close(all_classes.values["ode"]["held-out"], each.logsumexp(0) - math.log(10))
    label = fm.data.load("digits").held_out(4, 0).label
    torch.testing.assert_close(own.values["ode"]["held-out"], each[label, torch.arange(4)])
    assert all_classes.accuracy == {"ode": float((each.argmax(0) == label).float().mean())} and not own.accuracy
    assert numbers(all_classes)["ode", "held-out"].passes == 10 * numbers(own)["ode", "held-out"].passes
    assert own.quantity == "log p(x | class)" and all_classes.quantity == "log p(x)"


def test_the_null_class_gives_the_density_without_classes(runs):
    table = likelihood(runs["dropped"], n=4, by=SHORT, labels=False)
    x = likelihood(runs["dropped"], n=4, by=SHORT)
    assert numbers(table)["ode", "held-out"].passes == numbers(x)["ode", "held-out"].passes and not table.accuracy
    assert any("null class" in note for note in table.notes)
    guided = likelihood(runs["dropped"], n=4, by=SHORT, guidance=2.0)
    assert not torch.equal(guided.values["ode"]["held-out"], x.values["ode"]["held-out"])
    with pytest.raises(ValueError, match="a guided velocity has no jumps"):
        likelihood(runs["dropped"], n=4, by="jumps:2", guidance=2.0)


def test_other_data_are_compared(runs):
    x = torch.rand(40, 1, 8, 8) * 2 - 1
    with pytest.raises(ValueError, match="has no labels: give one class for all rows"):
        likelihood(runs["digits"], x, n=4, by=SHORT)
    table = likelihood(runs["digits"], x, n=4, by=SHORT, label=3)
    assert list(table.x)[-1] == "tensor" and len(table.x["tensor"]) == 4
    assert torch.equal((table.x["tensor"] + 1) * 8, ((table.x["tensor"] + 1) * 8).round())  # on the levels of the run
    one = likelihood(runs["digits"], x[:1], n=4, by=SHORT, label=3)
    assert len(one.x["tensor"]) == 1 and any("holds no rows out" in note for note in one.notes)
    own = likelihood(runs["digits"], (x, torch.arange(40) % 10), n=4, by=SHORT)
    assert len(own.x["tensor"]) == 4


def test_values_outside_of_the_range_of_training_are_said(runs):
    x = torch.zeros(60, 1, 8, 8)
    x[:, 0, 0, 0] = 254.0
    with pytest.warns(UserWarning, match=r"4 of 4 rows of tensor .* -1 to 1, by up to 253"):
        table = likelihood(runs["digits"], x, n=4, by=SHORT, label=3)
    assert any("by up to 253" in note for note in table.notes)
    with pytest.warns(UserWarning, match=r"of 8 rows of tensor .* outside of the range"):
        likelihood(runs["points"], 100 * torch.randn(40, 2), n=8, by=SHORT)


def test_data_of_the_range_are_not_warned_of(runs, recwarn):
    likelihood(runs["points"], "eight_gaussians", n=64, by=SHORT)
    likelihood(runs["digits"], "digits", n=8, by=SHORT)
    assert not [one for one in recwarn if "range" in str(one.message) or "different values" in str(one.message)]


def test_values_that_repeat_have_no_density(tmp_path):
    np.save(tmp_path / "whole.npy", np.random.default_rng(0).integers(5, size=(2000, 3)).astype(np.float32))
    run = experiments.train(tmp_path / "whole.npy", out=tmp_path / "run", **TINY).folder
    with pytest.warns(UserWarning, match="feature 0 of whole.npy have 5 different values among"):
        likelihood(run, n=4, by=SHORT)
    table = likelihood(run, n=4, by=SHORT, start=0.05)
    assert any("with noise of standard deviation 0.0526" in note for note in table.notes)


def test_units_of_the_data(tmp_path):
    """The density is one in the units of the data: rows of a thousandth of the size have 1000^D times the density."""
    x = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    found = []
    for k, scale in enumerate((1.0, 1e-3)):
        np.save(tmp_path / f"{k}.npy", 7 * scale + scale * x)
        run = experiments.train(tmp_path / f"{k}.npy", out=tmp_path / f"run{k}", **TINY).folder
        found.append(likelihood(run, tmp_path / f"{k}.npy", n=5, by=SHORT, start=0.1).values["ode"])
    for kind in ("held-out", "training", "random"):
        torch.testing.assert_close(
            found[1][kind] - found[0][kind], torch.full((5,), 3 * math.log(1e3)), rtol=1e-3, atol=0
        )
    torch.testing.assert_close(found[0]["held-out"], found[0]["0.npy"], atol=3.0, rtol=0)


def test_a_run_from_an_object_takes_the_given_data(tmp_path):
    x = torch.randn(60, 2)
    run = experiments.train(x, out=tmp_path / "run", **TINY).folder
    with pytest.raises(ValueError, match="made from an object"):
        likelihood(run, n=4)
    table = likelihood(run, x, n=4, by=SHORT)
    assert list(table.x) == ["held-out", "training", "random"]


def test_rows_that_are_folded_are_named_and_counted(runs):
    def folding(flow, x0):
        value = x0.flatten(1).sum(1)
        folded = (value > value.median()).long()
        return LogProb(torch.where(folded == 0, value, torch.nan), None, None, 3, folded)

    table = likelihood(runs["points"], n=8, by=folding)
    row = numbers(table)["folding", "held-out"]
    value = table.values["folding"]["held-out"]
    assert row.folded == int(value.isnan().sum()) == 4 and row.nats == pytest.approx(float(value.nanmean()), rel=1e-5)
    assert len(read_likelihood_record(runs["points"])["values"]["folding"]["held-out"]) == 4
    nothing = likelihood(
        runs["points"], n=8, by=lambda flow, x0: LogProb(x0[:, 0] * torch.nan, None, None, 1, torch.ones(8).long())
    )
    assert nothing.rows[0].nats is None and nothing.rows[1].auroc is None


def test_estimators_that_a_map_was_not_trained_for_are_refused():
    jumps_only = fm.FlowMap(fm.networks.MLP(2, 8, 1))
    jumps_only.trained = TrainedSpec(velocity=False)
    partial = fm.FlowMap(fm.networks.MLP(2, 8, 1), only_target=0.0)
    one_way = fm.FlowMap(fm.networks.MLP(2, 8, 1))
    one_way.trained = TrainedSpec()
    wrong = [
        (jumps_only, "ode", "its velocity is untrained"), (jumps_only, "bound:8", "its velocity is untrained"),
        (partial, "hutchinson", "a partial flow map has none"), (partial, "jumps", "no jump from s = 0 to t = 1"),
        (one_way, "jumps:3", "trained on jumps from noise to data"), (one_way, "joint", "joint"),
    ]  # fmt: skip
    for flow, by, words in wrong:
        with pytest.raises(ValueError, match=words):
            check_fits(estimators_of(by)[0], flow)
    both = fm.FlowMap(fm.networks.MLP(2, 8, 1))
    both.trained = TrainedSpec(up=True)
    for by in ("ode", "jumps:3", "bound"):
        check_fits(estimators_of(by)[0], both)


def test_a_run_that_takes_texts_is_refused(runs, monkeypatch):
    monkeypatch.setattr("flowmaps.experiments.likelihoods.condition_names", lambda network: {"text"})
    with pytest.raises(ValueError, match="conditioned on texts"):
        likelihood(runs["points"])


def test_latents_are_named(runs, monkeypatch):
    monkeypatch.setattr("flowmaps.experiments.likelihoods.has_latents", lambda config: True)
    assert any("one of latents" in note for note in likelihood(runs["points"], n=2, by=SHORT).notes)


def test_jacobians_that_do_not_fit_are_refused_before_anything_is_computed(runs, monkeypatch):
    monkeypatch.setattr("flowmaps.arguments.memory.available", lambda: 10_000)
    with pytest.raises(ValueError, match="take hutchinson or bound"):
        likelihood(runs["dropped"], n=1, by=fm.likelihood.jumps(2, step="heun"))


def test_the_cost_is_said_before_it_is_paid(runs):
    said = []
    likelihood(runs["digits"], n=1, by=["exact:4", "bound:2"], say=said.append)
    assert [line for line in said if "takes" in line] == ["exact:4 takes 1,040 forward passes for each of 3 rows ..."]
    assert passes_of(fm.likelihood.jumps(4), 64) == 4 * 65 and passes_of(fm.likelihood.bound(8), 64) == 8
    assert passes_of(fm.likelihood.ode(fm.likelihood.hutchinson(3), steps=5), 64) == 5 * 4 * 4
    assert passes_of(fm.likelihood.ode(solver=fm.likelihood.adaptive()), 64) is None
    assert (usual_for(2), usual_for(64)) == ("ode", "hutchinson")


def test_more_rows_than_there_are(tmp_path):
    """Training rows are never repeated, and all held-out rows are taken."""
    x = torch.randn(50, 2)
    run = experiments.train(x, out=tmp_path / "run", **TINY).folder
    table = likelihood(run, x, n=1000, by=SHORT)
    assert [len(rows) for rows in table.x.values()] == [10, 40, 10]
    assert len(table.x["training"].unique(dim=0)) == 40


def test_data_of_one_row_hold_nothing_out(tmp_path, monkeypatch):
    x = torch.randn(50, 2)
    run = experiments.train(x, out=tmp_path / "run", **TINY).folder
    with pytest.raises(ValueError, match="holds no rows out, so there are no unseen rows"):
        likelihood(run, x[:1], n=4, by=SHORT)


def test_what_estimators_are_is_said(runs):
    notes = likelihood(runs["points"], n=2, by=["bound:2", SHORT]).notes
    assert [note for note in notes if "bound:2 is a bound" in note] and not [note for note in notes if "joint" in note]


def test_names_of_estimators():
    found = estimators_of(["ode", "ode:50", "jumps:4", fm.likelihood.jumps(4), "bound", "hutchinson:2", SHORT])
    assert [one.name for one in found] == ["ode:50", "jumps:4", "bound:64", "hutchinson:2", "ode"]
    assert found[0].estimate == fm.likelihood.ode() and found[3].estimate.divergence == fm.likelihood.hutchinson(2)


def test_two_estimators_of_a_kind_keep_their_names_apart(runs):
    table = likelihood(runs["points"], n=2, by=[fm.likelihood.ode(steps=1), fm.likelihood.ode(steps=3), SHORT, SHORT])
    assert list(table.values) == ["ode", "ode_2", "ode_3"]


def test_auroc_is_the_share_of_pairs():
    torch.manual_seed(0)
    a, b = torch.randint(5, (30,)).double(), torch.randint(5, (40,)).double()
    by_hand = ((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean()
    assert auroc(a, b) == pytest.approx(float(by_hand)) and auroc(b, a) == pytest.approx(1 - float(by_hand))
    assert auroc(torch.cat([a, torch.tensor([math.nan])]).double(), b) == pytest.approx(float(by_hand))
    assert auroc(a[:0], b) is None and auroc(torch.tensor([1.0]), torch.tensor([0.0])) == 1


def test_the_mean_of_densities():
    a, b = torch.tensor([0.0, -1000.0]), torch.tensor([math.log(3.0), -1000.0])
    found = averaged(
        [LogProb(a, standard_error=torch.ones(2), passes=3), LogProb(b, standard_error=torch.ones(2), passes=4)]
    )
    torch.testing.assert_close(found.value, torch.tensor([math.log(2.0), -1000.0]))
    torch.testing.assert_close(found.standard_error, torch.tensor([0.625**0.5, 0.5**0.5]))
    assert found.passes == 7 and found.folded is None
    folded = averaged([LogProb(a, folded=torch.tensor([0, 1])), LogProb(a, folded=torch.tensor([0, 0]))])
    assert folded.folded.tolist() == [0, 1]


def test_the_record_is_kept(runs):
    table = likelihood(runs["digits"], n=4, by="bound:4", labels=False, command="flowmaps likelihood <RUN>")
    record = read_likelihood_record(runs["digits"])
    assert record["command"] == "flowmaps likelihood <RUN>" and record["notes"] == list(table.notes)
    assert record["rows"][0]["nats"] == table.rows[0].nats and record["accuracy"] == table.accuracy
    assert record["values"]["bound:4"]["held-out"] == pytest.approx(
        table.values["bound:4"]["held-out"].tolist(), rel=1e-5
    )
    assert (runs["digits"] / "likelihood.png").read_bytes()[:4] == b"\x89PNG" and repr(table).startswith(
        "LikelihoodTable("
    )


def test_another_process_that_keeps_its_record_is_waited_for_by_nobody(runs):
    likelihood(runs["points"], n=4, by=SHORT)
    before, said = (runs["points"] / "likelihood.json").read_bytes(), []
    with FolderLock(runs["points"], "keeping log-densities", LIKELIHOOD):
        table = likelihood(runs["points"], n=5, by=SHORT, say=said.append)
    assert table.rows[0].n == 5 and (runs["points"] / "likelihood.json").read_bytes() == before
    assert any("cannot be kept with the run" in line for line in said)


def test_the_report_shows_the_last_log_densities(runs):
    likelihood(runs["digits"], n=4, by="bound:4", labels=False, command="flowmaps likelihood <RUN>")
    text = experiments.report(runs["digits"], n=16, draws=2, jumps=(1,), ode_steps=(2,)).read_text()
    section = text.partition("<h2>Likelihood</h2>")[2].partition("</section>")[0]
    assert (
        "data:image/svg+xml" in section and "held-out (4)" in section and "flowmaps likelihood &lt;RUN&gt;" in section
    )
