"""Guidance on the command line: trained, distilled, sampled, evaluated, reported; and refused."""

import json

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main, parse
from flowmaps.cli.arguments import interval_of, keywords, scales_of
from flowmaps.cli.tables import print_evaluation
from flowmaps.evaluate import evaluate_run, read_evaluation, train_classifier
from flowmaps.evaluate.features import save_classifier
from flowmaps.experiments.guide import Guide, guide_of_training
from flowmaps.experiments.guided_run import baked_scale, guided_samplers, is_conditioned, knows_null, trained_scales
from flowmaps.reports import gallery, guidance, page, sections, way
from flowmaps.visualise import report

FAST = ["--steps", "3", "--batch-size", "16", "--lr", "0.1", "--no-progress-bar", "--trackers", "--sample-every", "0"]
SMALL = ["--width", "8", "--depth", "1"]
QUICK = {"n": 24, "draws": 2, "jumps": (1,), "ode_steps": (2,)}


def trained(out, *arguments):
    assert main(["train", "digits", "--out", str(out), *arguments, *FAST]) == 0
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A velocity that knows the null class; one that does not; flow maps of one scale, and told the scale, from scratch
    and distilled."""
    folder = tmp_path_factory.mktemp("runs")
    plain = trained(folder / "plain", "--method", "flow_matching", "--label-dropout", "0.2", *SMALL)
    taught = ["--teacher", str(plain), "--start", str(plain), "--guidance", "1:3"]
    return {
        "plain": plain,
        "ignorant": trained(folder / "ignorant", "--method", "flow_matching", *SMALL),
        "fixed": trained(folder / "fixed", "--method", "meanflow", "--guidance", "2", *SMALL),
        "told": trained(folder / "told", "--method", "imf", "--guidance", "1:8", *SMALL),
        "distilled": trained(folder / "distilled", "--method", "ayf_emd", *taught),
    }


def config(run):
    return json.loads((run / "config.json").read_text())


def drawn(run, out, *arguments):
    assert main(["sample", str(run), "-n", "10", "-o", str(out), *arguments]) == 0
    return torch.from_numpy(np.load(out))


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.partition("error: ")[2]


NOISE = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABEL = torch.arange(10)


def test_a_run_says_what_guidance_it_learned(runs):
    notes = {name: config(run)["notes"] for name, run in runs.items()}
    assert notes["plain"] == notes["ignorant"] == {}
    assert notes["fixed"] == {"guidance": "2"} and notes["told"] == {"guidance": "1:8"}
    assert notes["distilled"] == {"guidance": "1:3", "teacher": str(runs["plain"])}
    told = {name: is_conditioned(fm.load(run).network) for name, run in runs.items()}
    assert told == {"plain": False, "ignorant": False, "fixed": False, "told": True, "distilled": True}
    null = {name: knows_null(config(run)) for name, run in runs.items()}
    assert null == {"plain": True, "ignorant": False, "fixed": True, "told": True, "distilled": False}
    assert trained_scales(fm.load(runs["told"])) == (1.0, 8.0) and baked_scale(fm.load(runs["fixed"])) == 2.0


@pytest.mark.parametrize("name", ["told", "distilled"])
def test_samples_at_a_scale_are_those_of_the_map_that_is_conditioned_it(runs, name, tmp_path):
    flow = fm.load(runs[name])
    for scale in (1.5, 3.0):
        wanted = fm.sample(flow, NOISE, condition={"label": LABEL, "guidance": torch.full((10,), scale)})
        torch.testing.assert_close(drawn(runs[name], tmp_path / "x.npy", "--guidance", str(scale)), wanted)
    plain = drawn(runs[name], tmp_path / "x.npy")
    assert torch.equal(plain, drawn(runs[name], tmp_path / "x.npy", "--guidance", "1"))
    assert (plain - wanted).abs().max() > 1e-6


def test_a_velocity_that_knows_the_null_class_is_guided(runs, tmp_path):
    guided = fm.guidance.classifier_free(fm.load(runs["plain"]), 3.0, null={"label": 10}, interval=(0.0, 0.5))
    wanted = fm.sample(guided, NOISE, 4, step=fm.steps.euler, condition=LABEL)
    arguments = ["--guidance", "3", "--guidance-interval", "0:0.5", "--steps", "4"]
    torch.testing.assert_close(drawn(runs["plain"], tmp_path / "x.npy", *arguments), wanted)


def test_a_scale_that_was_never_seen_is_said(runs, tmp_path, capsys):
    drawn(runs["distilled"], tmp_path / "x.npy", "--guidance", "4")
    assert "was trained with scales from 1 to 3, and 4 is outside" in capsys.readouterr().err
    drawn(runs["distilled"], tmp_path / "x.npy", "--guidance", "3")
    assert "warning" not in capsys.readouterr().err


def test_what_a_run_does_not_know_is_refused(runs, capsys):
    def sample(name, *arguments):
        return refused(capsys, "sample", str(runs[name]), *arguments)

    assert "does not know the null class" in sample("ignorant", "--guidance", "2")
    assert "guidance of scale 2 is baked into this run" in sample("fixed", "--guidance", "3")
    assert "takes no interval" in sample("told", "--guidance", "2", "--guidance-interval", "0:0.5")
    assert "it needs --guidance" in sample("plain", "--guidance-interval", "0:0.5")
    with pytest.raises(ValueError, match="has no guidance"):
        evaluate_run(runs["ignorant"], guidance=(2.0,), features=fm.evaluate.Features("none", lambda x: x))


def test_training_that_cannot_be_guided_is_refused(runs, capsys, tmp_path):
    def train(data, *arguments):
        return refused(capsys, "train", data, "--out", str(tmp_path / "run"), *arguments, *FAST)

    assert "checkerboard has no class labels" in train("checkerboard", "--guidance", "2")
    assert "--no-labels leaves them out" in train("digits", "--guidance", "2", "--no-labels")
    assert "it needs --guidance" in train("digits", "--guidance-interval", "0:0.5")
    taught = ["--method", "ayf_emd", "--teacher", str(runs["ignorant"])]
    assert "which the teacher in" in train("digits", *taught, "--guidance", "2")
    assert not (tmp_path / "run").exists()


def test_a_partial_map_is_conditioned_the_scale(runs):
    whole = fm.load(runs["plain"])
    flow = Guide(1.0, 3.0, taught=True).flow(fm.FlowMap(whole.network, whole.output, only_target=0.0))
    assert is_conditioned(flow.network) and flow.only_target == 0.0 and flow.output is whole.output


@pytest.mark.parametrize("text", ["0", "-1", "3:1", "much", "1:2:3", "1:", "nan", "1:inf"])
def test_scales_that_are_none(text):
    with pytest.raises(ValueError, match="--guidance is"):
        scales_of(text)


@pytest.mark.parametrize("text", ["0.5", "0.5:0.2", "0:2", "a:b"])
def test_intervals_that_are_none(text):
    with pytest.raises(ValueError, match="--guidance-interval is"):
        interval_of(text)


def guide_of(*arguments, data):
    """The guidance that a command line asks for."""
    given = keywords(parse(arguments))
    names = ("guidance", "guidance_interval", "label_dropout", "labels", "teacher", "recipe")
    return guide_of_training(data, **{name: given[name] for name in names})


def test_data_and_method_without_guidance_stay_what_they_are():
    data, method = fm.data.load("digits"), fm.methods.imf()
    guide = guide_of("train", "digits", data=data)
    assert guide == Guide() and guide.data(data) is data and guide.method(method) is method and guide.notes() == {}


def test_a_tenth_of_the_labels_is_left_out_and_rows_without_are_told_scale_1():
    data = fm.data.load("digits")
    guide = guide_of("train", "digits", "--guidance", "2:4", "--guidance-interval", "0:0.7", data=data)
    batch = next(guide.data(data).batches(1000))
    null = batch.label == 10
    assert 0.06 < float(null.double().mean()) < 0.14
    scale = batch.given["guidance"]
    assert torch.equal(scale[null], torch.ones(int(null.sum())))
    assert 2 <= float(scale[~null].min()) and float(scale.max()) <= 4
    assert guide.notes() == {"guidance": "2:4", "guidance_interval": "0:0.7"}


@pytest.fixture(scope="module")
def classifier():
    return train_classifier(fm.data.load("digits"), steps=3)


@pytest.mark.slow
def test_evaluation_and_report_by_scale_beside_the_guided_teacher(runs, classifier, monkeypatch, capsys):
    """The teacher's folder is in the notes of a distilled run; scale 4 was not trained."""
    save_classifier(classifier, runs["distilled"] / "classifier.safetensors")
    for module, part in (
        (sections, "drawn"), (sections, "samples"), (sections, "consistency"), (gallery, "section"), (way, "section")
    ):  # fmt: skip
        monkeypatch.setattr(module, part, lambda *arguments: "")
    text = report(runs["distilled"], **QUICK).read_text()
    found = read_evaluation(runs["distilled"])["guidance"]
    rows = [(row.get("run"), row["sampler"], row["steps"], row["scale"]) for row in found["rows"]]
    own = [(None, name, n, w) for name, n in (("jump", 1), ("euler", 2)) for w in (1.0, 2.0)]
    assert rows == own + [("plain", "euler", 2, w) for w in (1.0, 2.0, 4.0)]
    assert "to_reference" in found["rows"][0] and found["reference"] == str(runs["plain"])
    assert "Effect of guidance" in text and "1 jump, scale 2" in text and "2 ODE steps of plain, scale 4" in text
    assert text.count("A grid of images, a row for each class") == 7
    print_evaluation(read_evaluation(runs["distilled"]))
    printed = capsys.readouterr().out
    assert "held-out data" in printed and printed.count("plain ") == 3 and "takes for the class asked for" in printed


def test_a_report_without_its_teacher_shows_the_rest(runs, classifier):
    rows = [
        {"sampler": "jump", "steps": 1, "scale": 1.0}
        | {key: 0.5 for k in ("accuracy", "diversity", "distance") for key in (k, f"{k}_stderr")}
        | {"network_calls": 1, "seconds_per_sample": 1e-3, **run}
        for run in ({}, {"run": "gone"})
    ]
    data, flow = fm.data.load("digits"), fm.load(runs["told"])
    samplers = guided_samplers(runs["told"], flow, data, scales=[1.0], steps=2)
    measures = {"accuracy": "right", "diversity": "apart", "distance": "far"}
    found = guidance.section(samplers, data, {"rows": rows, "data": rows[0], "measures": measures})
    text = page.render("guidance.html.j2", guidance=found)
    assert text.count("A grid of images, a row for each class") == 1 and "1 jump of gone" in text


def test_what_can_be_sampled_at_which_scales(runs):
    def scales(name, **options):
        found = guided_samplers(runs[name], fm.load(runs[name]), fm.data.load("digits"), steps=2, **options)
        return [(one.name, one.scale) for one in found]

    assert scales("ignorant") == []
    assert scales("fixed") == [("jump", 2.0), ("euler", 2.0)]
    assert scales("plain") == [("euler", 1.0), ("euler", 2.0), ("euler", 4.0)]
    assert scales("told") == [(name, w) for name in ("jump", "euler") for w in (1.0, 2.0, 4.0)]
    assert scales("distilled", scales=[5.0]) == [("jump", 5.0), ("euler", 5.0)]
