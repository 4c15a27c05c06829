"""The classes of data in the numbers of a teacher: rows keep their class, whatever their folders are called."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import flowmaps as fm
from flowmaps.data import load
from flowmaps.data.class_names import Numbering
from flowmaps.experiments import compare, distill, evaluate, train
from flowmaps.experiments.build import row_of
from flowmaps.experiments.distillation_setup import source_of
from flowmaps.experiments.pretrained_sources import SourceOptions
from flowmaps.experiments.run_data import run_data, with_classes_of
from flowmaps.runs.resuming import existing
from flowmaps.training import read_config
from tests.integrations import tiny

pytestmark = pytest.mark.slow

QUIET = {"batch_size": 4, "steps": 1, "trackers": (), "progress_bar": False, "sample_every": 0}
ROW = row_of("lmd")


def pictures(folder, names, colours=None, side=8, mode="L"):
    """Class folders of grey pictures, each of a colour of its own, by which a row shows its class."""
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        colour = 10 * (int(name) if colours is None else colours[place])
        for i in range(3):
            Image.fromarray(np.full((side, side), colour, np.uint8)).convert(mode).save(folder / name / f"{i}.png")
    return folder


def numbers(data):
    """The label of each colour / 10, over all rows."""
    parts = data.draw(data.size), data.held_out(99)
    x, label = (torch.cat(part) for part in zip(*((part.x0, part.label) for part in parts), strict=True))
    colour = ((x[:, 0, 0, 0] + 1) * 12.75).round().int().tolist()
    known = {}
    for one, number in zip(colour, label.tolist(), strict=True):
        assert known.setdefault(one, number) == number
    return known


def given(pipeline, data, **options):
    """The data that a distillation of a pipeline learns from."""
    return source_of(pipeline, SourceOptions(data=data, **options)).data(ROW)


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """A network of twelve classes and a null class, without names."""
    return tiny.ddpm_unet(tmp_path_factory.mktemp("unet"), classes=12)


@pytest.fixture(scope="module")
def named(unet, tmp_path_factory):
    """The same with names."""
    folder = tiny.ddpm_unet(tmp_path_factory.mktemp("named"), classes=4)
    names = {"0": "tench, Tinca tinca", "1": "crane", "2": "great white shark", "3": "crane"}
    return with_names(folder, names)


def with_names(folder, names, file="model_index.json"):
    index = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(index | {"id2label": names}))
    return folder


@pytest.mark.parametrize("classes", [None, 12])
@pytest.mark.parametrize(
    "names", [["3", "7"], ["003", "007"], list(map(str, range(12))), ["11", "2"]], ids=lambda names: " ".join(names)
)
def test_folders_that_are_numbers_have_the_numbers_of_the_teacher(names, classes, unet, tmp_path):
    data = given(unet, pictures(tmp_path / "x", names), classes=classes)
    assert numbers(data) == {int(name): int(name) for name in names}
    if classes:
        assert data.classes == 12
    again = fm.data.load.__globals__["load_again"](json.loads(json.dumps(data.recipe)), "here")
    assert numbers(again) == numbers(data) and again.classes == data.classes


def test_every_user_has_numeric_folders_in_numeric_order(tmp_path):
    data = load(pictures(tmp_path / "x", map(str, range(12))))
    assert data.class_names == tuple(map(str, range(12))) and numbers(data) == {i: i for i in range(12)}
    mixed = load(pictures(tmp_path / "y", ["10", "9", "a"], [0, 1, 2]))
    assert mixed.class_names == ("10", "9", "a")


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Great_White-shark", "tench, Tinca tinca"], [2, 0]),
        (["great white shark", "tinca tinca"], [2, 0]),
        (["2", "3"], [2, 3]),
    ],
)
def test_folders_have_the_numbers_of_their_names_in_id2label(file, names, expected, tmp_path):
    folder = tiny.ddpm_unet(tmp_path / "pipeline", classes=4)
    with_names(folder, {"0": "tench, Tinca tinca", "1": "crane", "2": "great white shark", "3": "dog"}, file)
    data = given(folder, pictures(tmp_path / "x", names, expected))
    assert numbers(data) == {i: i for i in expected}
    assert (data.classes, data.class_names[3]) == (4, "dog")


@pytest.mark.parametrize("names", ["list", "file"])
def test_given_names_are_the_order_of_the_classes(names, unet, tmp_path):
    classes = ["dog", "cat", *(f"other {i}" for i in range(10))]
    if names == "file":
        (tmp_path / "names.txt").write_text("\n".join(classes))
        classes = tmp_path / "names.txt"
    assert numbers(given(unet, pictures(tmp_path / "x", ["cat", "dog"], [1, 0]), classes=classes)) == {0: 0, 1: 1}


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (["cat", "dog"], "cat, dog"),
        (["3", "cat"], "cat"),
        (["12"], "12"),
    ],
)
def test_classes_that_cannot_be_matched_are_refused_with_both_lists(names, lost, unet, tmp_path):
    folder = pictures(tmp_path / "x", names, range(len(names)))
    with pytest.raises(ValueError, match=f"cannot be matched .*: {lost}. The classes of .* are .*the numbers 0 to 11"):
        given(unet, folder, classes=12)


def test_names_that_cannot_be_matched_are_refused_with_both_lists(named, tmp_path):
    for number, (names, message) in enumerate(
        {
            ("bird",): r"classes of .* are bird; the classes of .* are tench, Tinca tinca, crane, great white shark",
            ("crane",): r"cannot be matched .*: crane\.",  # two classes have this name
            ("tench", "Tinca tinca"): r"the classes Tinca tinca, tench of .* are one class of .*, number 0",
        }.items()
    ):
        with pytest.raises(ValueError, match=message):
            given(named, pictures(tmp_path / str(number), names, range(len(names))))


def test_labels_without_names_are_numbers_of_the_teacher(unet, tmp_path):
    rows = torch.zeros(6, 1, 8, 8)
    label = torch.tensor([3, 7, 3, 7, 3, 7])
    assert set(given(unet, (rows, label)).draw(4).label.tolist()) == {3, 7}
    with pytest.raises(ValueError, match="has 12 classes, and tensor 13: give labels from 0 to 11"):
        given(unet, (rows, label + 5), classes=12)  # 12 is the null class


def test_the_names_of_a_data_set_of_torch_are_matched(unet):
    class Items(torch.utils.data.Dataset):
        classes = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")  # as torchvision numbers folders

        def __len__(self):
            return 12

        def __getitem__(self, row):
            return torch.full((1, 8, 8), int(self.classes[row]) / 12.75 - 1), row

    expected = {i: i for i in range(12)}
    assert numbers(given(unet, Items())) == expected
    subset = torch.utils.data.Subset(Items(), range(12))
    assert numbers(given(unet, subset)) == expected
    loader = fm.data.as_data(torch.utils.data.DataLoader(Items(), 12), classes=12)
    assert Numbering("teacher", 12).fit(loader).draw(12).label.tolist() == [0, 1, 10, 11, *range(2, 10)]


def test_the_names_of_a_hugging_face_data_set_are_matched(named):
    import datasets

    names = ["great white shark", "tench"]
    features = datasets.Features(
        {
            "x": datasets.Array3D((1, 8, 8), "float32"),
            "label": datasets.ClassLabel(names=names),
        }
    )
    rows = {"x": [np.full((1, 8, 8), 0.1 * (i % 2)) for i in range(6)], "label": [0, 1] * 3}
    data = given(named, datasets.Dataset.from_dict(rows, features))
    batch = data.draw(data.size)
    assert batch.label.tolist() == [2 if x == 0 else 0 for x in batch.x0[:, 0, 0, 0].tolist()]


def test_the_folders_of_imagenet_have_their_order():
    names = [f"n{10**7 + 37 * i}" for i in range(1000)]
    teacher = Numbering("teacher", 1000, {i: f"class {i}" for i in range(1000)})
    assert teacher.numbers(names[::-1], "x") == list(range(1000))[::-1]
    with pytest.raises(ValueError, match="cannot be matched"):
        teacher.numbers(names[:100], "x")


def test_an_encoded_data_set_keeps_its_names_and_is_numbered_when_it_is_read(tmp_path):
    dit = with_names(tiny.dit(tmp_path / "dit", classes=10), {str(i): f"class {i}" for i in range(10)})
    folder = pictures(tmp_path / "x", ["class 7", "class 3"], [7, 3], 16, "RGB")
    data = given(dit, folder, cache=tmp_path / "cache")
    assert set(data.draw(data.size).label.tolist()) == {3, 7} and data.classes == 10
    again = given(dit, tmp_path / "cache")
    assert torch.equal(again.draw(4).label, data.draw(4).label)


def test_a_distilled_run_is_evaluated_with_the_numbers_of_its_teacher(unet, tmp_path):
    folder = pictures(tmp_path / "x", ["3", "7"])
    run = distill(unet, data=folder, method="lmd", classes=12, out=tmp_path / "run", **QUIET)
    about = read_config(run)["data"]
    assert about["classes"] == 12 and about["class_names"] == [str(i) for i in range(12)]
    assert numbers(run_data(run)) == {3: 3, 7: 7}
    assert numbers(with_classes_of(run, load(folder, size=8))) == {3: 3, 7: 7}
    assert distill(unet, data=folder, method="lmd", classes=12, out=run.folder, resume=True, **QUIET).steps == 0


# --- runs as teachers -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run of three classes, whose folder is there."""
    home = tmp_path_factory.mktemp("own")
    folder = pictures(home / "x", ["cat", "dog", "fox"], [0, 1, 2])
    return train(folder, method="flow_matching", network="mlp", width=8, depth=1, out=home / "run", **QUIET).folder


def test_the_classes_of_a_run_are_matched_by_name(own, tmp_path):
    assert read_config(own)["data"]["class_names"] == ["cat", "dog", "fox"]
    assert numbers(given(own, pictures(tmp_path / "x", ["dog", "fox"], [1, 2]))) == {1: 1, 2: 2}
    with pytest.raises(ValueError, match="are bird, dog; the classes of .*run are cat, dog, fox"):
        given(own, pictures(tmp_path / "y", ["dog", "bird"], [1, 2]))
    with pytest.raises(ValueError, match="has 3 classes, and tensor 4: give labels from 0 to 2"):
        given(own, (torch.zeros(4, 1, 8, 8), torch.arange(4)))  # 3 is the null class
    with pytest.raises(ValueError, match="was trained with class labels alone, and tensor has none"):
        given(own, torch.zeros(4, 1, 8, 8))


@pytest.mark.parametrize("role", ["teacher", "start", "reflow"])
def test_a_run_that_another_run_starts_from_gives_its_numbers(role, own, tmp_path):
    folder = pictures(tmp_path / "x", ["dog", "fox"], [1, 2])
    more = {"method": "lmd"} if role == "teacher" else {"method": "flow_matching"}
    more |= {"couplings": 8} if role == "reflow" else {}
    more |= {} if role == "start" else {"network": "mlp", "width": 8, "depth": 1}
    run = train(folder, out=tmp_path / "run", **{role: own}, **more, **QUIET)
    assert read_config(run)["data"]["class_names"] == ["cat", "dog", "fox"]


def test_an_evaluation_on_other_data_has_the_numbers_of_the_run(own, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "flowmaps.experiments.evaluation.measure", lambda run, loaded, data, *args, **options: seen.append(data)
    )
    evaluate(own, data=pictures(tmp_path / "x", ["dog", "fox"], [1, 2]))
    assert numbers(seen[0]) == {1: 1, 2: 2}


def test_a_comparison_has_the_numbers_of_its_teacher(own, tmp_path):
    with pytest.raises(ValueError, match="are ant; the classes of .*run are cat, dog, fox"):
        compare(pictures(tmp_path / "x", ["ant"], [0]), ["lmd"], teacher=own, steps=1, out=tmp_path / "out")


def test_a_reference_with_other_classes_is_refused(own, tmp_path):
    other = pictures(tmp_path / "x", ["ant", "bee", "cow"], [0, 1, 2])
    run = train(other, method="flow_matching", network="mlp", width=8, depth=1, out=tmp_path / "run", **QUIET)
    with pytest.raises(ValueError, match="are cat, dog, fox; the classes of .* are ant, bee, cow"):
        evaluate(own, run)
    other = load(read_config(own)["data"]["recipe"]["name_or_path"], class_names=["fox", "dog", "cat"])
    run = train(other, method="flow_matching", network="mlp", width=8, depth=1, out=tmp_path / "other", **QUIET)
    with pytest.raises(ValueError, match="in the same order: .* are fox, dog, cat, and .* are cat, dog, fox"):
        evaluate(own, run)


# --- runs of earlier versions, which ordered folders by their letters -------------------------------------------------


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A run on twelve folders as version 0.1.0 numbered them, which holds no names."""
    monkeypatch.setattr("flowmaps.data.folder.in_order", sorted)
    folder = pictures(tmp_path / "x", map(str, range(12)))
    run = train(folder, method="flow_matching", network="mlp", width=8, depth=1, out=tmp_path / "run", **QUIET).folder
    monkeypatch.undo()
    config = json.loads((run / "config.json").read_text())
    del config["checksum"], config["data"]["class_names"]
    (run / "config.json").write_text(json.dumps(config))
    return folder, run


def resumed(folder, run, **options):
    return train(
        folder, method="flow_matching", network="mlp", width=8, depth=1, out=run, resume=True, **QUIET, **options
    )


@pytest.mark.parametrize("fingerprint", ["samples", "off"])
def test_a_run_of_folders_in_the_old_order_is_not_resumed_in_the_new_one(fingerprint, earlier):
    with pytest.raises(ValueError, match="numbered in the order of their letters by an earlier version"):
        resumed(*earlier, fingerprint=fingerprint)


def test_a_run_of_folders_in_the_old_order_keeps_it_when_it_is_read(earlier, unet):
    folder, run = earlier
    old = {int(name): number for number, name in enumerate(sorted(map(str, range(12))))}
    assert numbers(run_data(run)) == old
    assert numbers(given(run, folder)) == old and numbers(with_classes_of(run, load(folder))) == old


def test_a_run_of_folders_whose_order_is_the_same_is_resumed(tmp_path):
    folder = pictures(tmp_path / "x", ["0", "1", "a"], [0, 1, 2])
    options = {"method": "flow_matching", "network": "mlp", "width": 8, "depth": 1, "out": tmp_path / "run", **QUIET}
    run = train(folder, **options).folder
    config = json.loads((run / "config.json").read_text())
    del config["checksum"], config["data"]["class_names"]
    (run / "config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(folder, resume=True, **options).steps == 0


def test_a_resumed_run_with_other_class_names_is_refused(own):
    config = read_config(own)
    names = ["fox", "dog", "cat"]
    with pytest.raises(ValueError, match=r"data.class_names\[0\] was cat and is fox"):
        existing(own, config | {"data": config["data"] | {"class_names": names}})


# --- the option -------------------------------------------------------------------------------------------------------


def test_a_data_set_is_loaded_with_given_class_names(tmp_path):
    folder = pictures(tmp_path / "x", ["cat", "dog"], [0, 1])
    data = load(folder, class_names=["fox", "dog", "cat"])
    assert numbers(data) == {0: 2, 1: 1} and (data.classes, data.class_names) == (3, ("fox", "dog", "cat"))
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3)), y=np.arange(4) % 2)
    rows = load(tmp_path / "x.npz", class_names=["a", "b", "c"])
    assert (rows.classes, rows.class_names, rows.recipe["class_names"]) == (3, ("a", "b", "c"), ["a", "b", "c"])
    with pytest.raises(ValueError, match="cannot be matched with the classes of class_names: dog"):
        load(folder, class_names=["cat"])
    with pytest.raises(ValueError, match="class_names are for data with class labels"):
        load("two_moons", class_names=["a"])


@pytest.mark.parametrize(
    ("classes", "error"),
    [([], ValueError), ([1, 2], TypeError), (0, ValueError), (2.5, TypeError), (("a",) * 14, ValueError)],
)
def test_wrong_classes_are_refused(classes, error, unet, tmp_path):
    with pytest.raises(error, match="`?classes"):
        distill(unet, data=(torch.zeros(4, 1, 8, 8), torch.arange(4)), classes=classes, dry_run=True)


@pytest.mark.parametrize("names", [["a"], {"x": "a"}, {"0": 1}, "a"])
def test_a_broken_id2label_is_refused(names, unet, tmp_path):
    import shutil

    folder = with_names(shutil.copytree(unet, tmp_path / "p"), names)
    with pytest.raises(ValueError, match=r"id2label of .* must give a class name for each number"):
        given(folder, (torch.zeros(4, 1, 8, 8), torch.arange(4)))
    good = with_names(shutil.copytree(unet, tmp_path / "q"), {"0": "a", "1": "b"})
    with pytest.raises(ValueError, match="13 class embeddings and names for 2 classes, which does not fit `c"):
        given(good, (torch.zeros(4, 1, 8, 8), torch.arange(4)), classes=12)


def test_guidance_of_a_subset_has_the_null_class_of_the_network(unet, tmp_path):
    """The null class follows the classes of the network, not of the data."""
    rows = (torch.randn(8, 1, 8, 8), torch.arange(8) % 2)
    run = distill(unet, data=rows, method="lmd", classes=12, dropout=0.5, out=tmp_path / "run", **QUIET)
    from flowmaps.experiments.guided_run import at_scale

    guided, _ = at_scale(run.flow, read_config(run), 2.0)
    assert guided.null == {"label": 12}


def test_a_data_set_with_the_numbers_of_its_teacher_stays_itself(unet):
    data = fm.data.as_data((torch.zeros(4, 1, 8, 8), torch.arange(4)))
    assert given(unet, data) is data
    data = replace(data, class_names=("0", "1", "2", "3"))
    assert given(unet, data) is data
