"""Classes of the data keep the numbers that a teacher in Python has for them."""

from dataclasses import replace

import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.data import transforms
from tests.training.support import QUIET

NAMES = ("cat", "dog", "fox")


def data(names, classes=None):
    """Rows of classes with names; the label is the number of the name."""
    count = len(names) if names is not None else classes
    torch.manual_seed(0)
    made = fm.data.as_data((torch.randn(60, 2), torch.arange(60) % count))
    return replace(made, class_names=None if names is None else tuple(names))


def flow(classes):
    return fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=classes))


def trained(names, classes=None, dropout=0.2):
    made = data(names, classes)
    made = transforms.transformed(made, transforms.LabelDropout(dropout, made.classes))
    return fm.fit(flow(made.classes), "flow_matching", made, steps=1, **QUIET).ema


@pytest.fixture(scope="module")
def teacher():
    return trained(NAMES)


def distilled(teacher, names, classes=None, make=lambda teacher: teacher, **settings):
    made = data(names, classes)
    return fm.fit(flow(made.classes), fm.methods.lmd(teacher=make(teacher)), made, steps=1, **QUIET, **settings)


def test_training_records_the_names(teacher, tmp_path):
    assert (teacher.trained.classes, teacher.trained.class_names) == (3, NAMES)
    fm.save(teacher, tmp_path / "flow.safetensors")
    assert fm.load(tmp_path / "flow.safetensors").trained == teacher.trained
    assert fm.fit(flow(3), "lsd", data(NAMES), labels=False, steps=1, **QUIET).flow.trained.class_names is None


GUIDED = {
    "itself": lambda teacher: teacher,
    "guided": lambda teacher: fm.guidance.classifier_free(teacher, 2.0, null={"label": 3}),
    "bound": lambda teacher: fm.guidance.autoguidance(teacher, teacher, 2.0),
}


@pytest.mark.parametrize("how", GUIDED)
@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("dog", "fox"), "the class dog of tensor has the number 0, and 1 in the teacher.*trained on cat, dog, fox"),
        (("fox", "dog", "cat"), "the class fox of tensor has the number 0, and 2 in the teacher.*class_names="),
        (("cat", "dog", "horse"), "cannot be matched with the classes of the teacher: horse.*are cat, dog, fox"),
    ],
)
def test_other_numbers_than_the_teachers_are_refused(teacher, names, match, how):
    with pytest.raises(ValueError, match=match):
        distilled(teacher, names, make=GUIDED[how])


@pytest.mark.parametrize(
    ("names", "classes"), [(NAMES, None), (("Cat", "DOG", "fox"), None), (("cat", "dog"), None), (None, 2), (None, 3)]
)
def test_the_same_numbers_are_trained(teacher, names, classes):
    assert distilled(teacher, names, classes).loss.value.isfinite()


def test_a_teacher_without_names():
    unnamed = trained(None, 12)
    assert distilled(unnamed, [str(number) for number in range(12)]).loss.value.isfinite()
    with pytest.raises(ValueError, match="the class 3 of tensor has the number 0, and 3 in the teacher"):
        distilled(unnamed, ["3", "7"])
    assert distilled(trained(None, 2), ["ant", "bee"]).loss.value.isfinite()  # as many classes: nothing is known


def test_a_map_that_goes_on_with_other_classes_is_warned():
    """Fine-tuning may have other classes; the labels mean others then."""
    first = fm.fit(flow(3), "lsd", data(NAMES), steps=1, **QUIET).flow
    with pytest.warns(UserWarning, match="the class dog of tensor has the number 0, and 1 in the flow map"):
        fm.fit(first, "lsd", data(["dog", "fox"]), steps=1, **QUIET)
    assert first.trained.class_names == ("dog", "fox")


def test_an_experiment_renumbers_them(teacher, tmp_path):
    settings = {"method": "lmd", "width": 8, "depth": 1, "out": tmp_path / "run"}
    run = experiments.train(data(["dog", "fox"]), teacher=teacher, steps=1, **settings, **QUIET)
    assert run.config["data"]["class_names"] == list(NAMES)
