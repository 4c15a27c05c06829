"""Recipes at the sizes of papers: their code paths, reduced, on data as it is kept on disk."""

import itertools
import json
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import flowmaps as fm
from flowmaps.cli import main, parse
from flowmaps.experiments.training_setup import recipe_of
from flowmaps.recipes import RECIPES, find
from flowmaps.training import WarmUp

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0}


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """Means and standard deviations of latents with labels."""
    path = tmp_path_factory.mktemp("latents") / "train.safetensors"
    g = torch.Generator().manual_seed(0)
    save_file({"x": torch.rand(40, 8, 32, 32, generator=g).half(), "label": torch.arange(40) % 1000}, path)
    return path


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """A data set like CIFAR-10, as `datasets` keeps it."""
    rng = np.random.default_rng(0)
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=[str(i) for i in range(10)])}
    )

    def table(n):
        images = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(n)]
        return datasets.Dataset.from_dict({"img": images, "label": [i % 10 for i in range(n)]}, features=features)

    path = tmp_path_factory.mktemp("cifar") / "cifar10"
    datasets.DatasetDict({"train": table(24), "test": table(8)}).save_to_disk(path)
    return path


def data_for(recipe, latents, cifar, tmp_path):
    if recipe.repeats is not None:
        return fm.data.as_data(torch.randn(32, *recipe.shape), kind="vectors", standardise=False)
    if len(recipe.shape) == 2:
        (tmp_path / "text.txt").write_text(3 * "the quick brown fox jumps over the lazy dog " * 20)
        return fm.data.text(tmp_path / "text.txt", recipe.shape[0], "letters")
    return fm.data.load(cifar) if recipe.classes is None else fm.data.load(latents, moments=True)


@pytest.mark.parametrize("name", [n for n in RECIPES if not any(part in n for part in ("dit-l2", "dit-xl2", "lm1b"))])
@pytest.mark.slow
def test_a_reduced_recipe_trains_resumes_loads_and_samples(name, latents, cifar, tmp_path):
    """l2 and xl2 are b2 when they are reduced; rows of LM1B stay large, with their vocabulary."""
    torch.manual_seed(0)
    recipe = find(name).reduced()
    data = recipe.prepare(data_for(recipe, latents, cifar, tmp_path))
    teacher = find(recipe.teacher).reduced().flow() if recipe.teacher else None
    first = recipe.flow()

    def run(steps, resume, flow):
        settings = {**recipe.settings(), **QUIET, "out": tmp_path / "run", "resume": resume}
        return list(itertools.islice(fm.train(flow, recipe.build(teacher), data, **settings), steps))

    weights = {key: value.clone() for key, value in first.state_dict().items()}
    assert [state.step for state in run(2, False, first)] == [1, 2]
    again = recipe.flow()
    again.load_state_dict(weights)
    assert [state.step for state in run(None, True, again)] == [3]
    flow = fm.load(tmp_path / "run")
    told = {} if recipe.classes is None else {"condition": torch.tensor([3, 1000])}
    x = fm.sample(flow, torch.randn(2, *recipe.shape), **told)
    assert x.shape == (2, *recipe.shape) and x.isfinite().all()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["labels"] == (recipe.classes == 1000)


@pytest.mark.parametrize("size", ["l2", "xl2"])
def test_large_networks_reduce_to_the_same(size):
    like = find("imagenet256-dit-b2-meanflow").reduced().flow().state_dict()
    assert {k: v.shape for k, v in find(f"imagenet256-dit-{size}-meanflow").reduced().flow().state_dict().items()} == {
        k: v.shape for k, v in like.items()
    }


def train(*arguments):
    return main(["train", *map(str, arguments), "--reduced", "--no-progress-bar", "--trackers", "--sample-every", "0"])


def test_the_command_line_runs_a_recipe_and_its_distillation(latents, tmp_path, capsys):
    data = [latents, "--data-args", "moments=True", "--precision", "bf16"]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert train(*data, "--recipe", "imagenet256-dit-b4-flow-matching", "--out", teacher) == 0
    recipe = ["--recipe", "imagenet256-dit-b4-ayf-emd"]
    assert train(*data, *recipe, "--out", student) == 2
    assert "--teacher RUN" in capsys.readouterr().err
    assert train(*data, *recipe, "--checkpoint", "--out", student, "--teacher", teacher, "--lr", "1e-3") == 0
    config = json.loads((student / "config.json").read_text())
    assert config["notes"] == {"recipe": recipe[1], "teacher": str(teacher)}
    kept = {"steps": 3, "batch_size": 8, "lr": 1e-3, "ema": 0.9999, "clip": 1.0, "precision": "bf16", "compile": False}
    assert kept.items() <= config["training"].items()
    assert main(["sample", str(student), "-n", "2", "-o", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (2, 4, 32, 32)


def test_the_command_line_runs_a_recipe_on_images(cifar, tmp_path, capsys):
    recipe = [cifar, "--recipe", "cifar10-unet-ect", "--out", tmp_path / "ect"]
    assert train(*recipe) == 2 and "--start, a run of cifar10-unet-flow-matching" in capsys.readouterr().err
    assert train(cifar, "--recipe", "cifar10-unet-flow-matching", "--out", tmp_path / "start") == 0
    assert train(*recipe, "--start", tmp_path / "start") == 0
    assert "torch.optim.radam:RAdam" in (tmp_path / "ect" / "config.json").read_text()
    assert fm.load(tmp_path / "ect").only_target == 0.0


def test_options_come_before_the_recipe():
    typed = ["train", "latents.npy", "--recipe", "cifar10-unet-meanflow", "--batch-size", "256", "--method", "imf"]
    options = parse(typed)
    recipe = find("cifar10-unet-meanflow")
    assert (options.batch_size, options.method) == (256, "imf")
    assert (options.steps, options.lr, options.ema, options.clip) == (768_000, 6e-4, 0.9999, None)
    assert parse(typed[:4]).method == "meanflow" and parse(typed[:2]).batch_size is None
    assert recipe.settings()["optimizer"].keywords == {"lr": 6e-4}


def test_what_is_refused(latents, cifar, tmp_path, capsys):
    def error(*arguments):
        assert train(*arguments, "--out", tmp_path / "no") == 2
        return capsys.readouterr().err

    recipe = ["--recipe", "imagenet256-dit-b4-meanflow"]
    assert "did you mean imagenet256-dit-b4-meanflow" in error(latents, "--recipe", "imagenet256-dit-b4-meanflw")
    assert "--width does not apply" in error(latents, *recipe, "--width", "8")
    assert "rows of (4, 32, 32), but train.safetensors has (8, 32, 32)" in error(latents, *recipe)
    assert "labels of at most 1000 classes" in error(latents, *recipe, "--data-args", "moments=True", "labels=False")
    with pytest.raises(ValueError, match="needs a teacher, a run of imagenet256-dit-b4-flow-matching"):
        find("imagenet256-dit-b4-ayf-emd").build()
    with pytest.raises(ValueError, match="needs no teacher"):
        find(recipe[1]).build(find(recipe[1]).reduced().flow())
    assert "--reduced is for recipes" in error(latents)
    assert not (tmp_path / "no").exists()


def test_recipes_say_where_they_are_from():
    assert len(RECIPES) == 19
    for name, recipe in RECIPES.items():
        assert recipe.name == name and recipe.where and recipe.differs and recipe.paper.arxiv
        assert recipe.row.needs_teacher == (recipe.teacher is not None)
        assert {recipe.teacher, recipe.start} - {None} <= RECIPES.keys()
        assert replace(recipe, steps=5).settings()["steps"] == 5


def test_the_guidance_of_recipes_is_that_of_meanflow():
    """omega = scale (1 - kappa), as the papers count."""
    guided = {name: recipe.guidance for name, recipe in RECIPES.items() if recipe.guidance}
    assert {name.removeprefix("imagenet256-dit-") for name in guided} == {
        "b4-meanflow", "b2-meanflow", "xl2-meanflow", "b2-imf",
    }  # fmt: skip
    for name, source in guided.items():
        omega = source.scale * (1 - source.share.kappa)
        assert (round(omega, 6), source.share.kappa) == ((0.2, 0.92) if "xl2" in name else (1.0, 0.5))
        assert find(name).build().terms[0].velocity.null == {"label": find(name).classes}
    typed = ["train", "x.npy", "--recipe", "imagenet256-dit-b4-meanflow", "--method", "lmd"]
    other, own = (recipe_of(options.recipe, method=options.method) for options in map(parse, (typed, typed[:4])))
    assert other.guidance is None and own.guidance is not None


def test_warm_up_rises_and_stays():
    rise = WarmUp(0.25)
    assert [rise(p) for p in (0.0, 0.125, 0.25, 1.0)] == [0.0, 0.5, 1.0, 1.0]
    with pytest.raises(ValueError, match="between 0 and 1, got 0"):
        WarmUp(0)
