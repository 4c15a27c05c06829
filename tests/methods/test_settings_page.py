"""The page of the papers' settings says what the code does: our defaults, the variants, and the docstrings."""

import importlib
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps.methods import LANDSCAPE
from flowmaps.methods.variants import VARIANTS
from flowmaps.runs.fingerprint import fingerprint
from flowmaps.training import TrainConfig
from tests.in_one import in_one

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "papers.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.partition("## Ours, the paper, its code")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| `fm.")
]
WORDS = {
    **{name: getattr(fm.times, name) for name in fm.times.__all__},
    **{name: getattr(fm.times.grids, name) for name in ("karras", "uniform_grid")},
    **{name: getattr(fm.weight, name) for name in ("squared", "huber_each")},
    "euler": fm.steps.euler,
    "finite_difference": fm.derivative.finite_difference,
    "None": None,
    "False": False,
}
"""Words of the settings on the page."""
SETTING = re.compile(r"`([\w.]+)=([^`]+)`")


def defaults_of(method):
    """The defaults of a method, or of training, by name."""
    if method == "fm.train":
        return {field.name: field.default for field in fields(TrainConfig)}
    build = getattr(fm.methods, method.removeprefix("fm.methods."))
    return {name: parameter.default for name, parameter in inspect.signature(build).parameters.items()}


def settings():
    for methods, ours, *_ in ROWS:
        for method in re.findall(r"`([\w.]+)`", methods):
            for name, value in SETTING.findall(ours):
                yield method, name, value


def value_of(text):
    return eval(text, {"__builtins__": {}}, WORDS)


def default_of(method, name):
    if name == "Endpoint.min_time":
        return fm.outputs.Endpoint().min_time
    return defaults_of(method)[name]


def test_the_table_has_settings_to_check():
    assert len(ROWS) > 20 and len(list(settings())) > 40
    assert all(len(row) == 4 for row in ROWS)


@in_one("method, name, text", settings())
def test_a_default_on_the_page_is_the_default_of_the_code(method, name, text):
    assert fingerprint(default_of(method, name)) == fingerprint(value_of(text))


def test_another_default_would_be_noticed():
    """The comparison sees a number, a number within a sampler, and another function."""
    for text, other in (("18", "19"), ("gap(-0.8)", "gap(-0.7)"), ("karras", "uniform_grid"), ("squared", "None")):
        assert fingerprint(value_of(text)) != fingerprint(value_of(other))


def test_our_numbers_stand_in_settings_alone():
    """A number of ours outside of a setting could go stale; the quoted quantiles of sct are computed here."""
    for method, ours, *_ in ROWS:
        text = re.sub(r"`[^`]*`", "", ours)
        left = re.findall(r"\d[\d.]*", re.sub(r"x_0|s reaches 1|\(eps - x_0\)²|t²", "", text))
        assert not left, (method, left)


def test_the_quantiles_of_trigflows_times():
    z = 1.6448536269514722
    level = torch.exp(torch.tensor([-1 - 1.4 * z, -1 + 1.4 * z]).double()) / 0.5
    angles, linear = torch.atan(level) * 2 / torch.pi, level / (1 + level)
    for value in (*angles, *linear):
        assert f"{value:.3f}" in PAGE


def test_the_page_and_the_code_have_the_same_variants():
    named = re.findall(r"`fm\.methods\.variants\.(\w+)`", "\n".join(row[3] for row in ROWS))
    assert sorted(named) == sorted(row.name for row in VARIANTS)
    by_name = {row.name: row for row in VARIANTS}
    for methods, _, _, variant in ROWS:
        for name in re.findall(r"variants\.(\w+)`", variant):
            assert methods == f"`fm.methods.{by_name[name].of}`"
    sys.path.insert(0, str(DOCS))
    table = importlib.import_module("hooks").variants()
    assert all(f"`fm.methods.variants.{row.name}`" in table and row.sets in table for row in VARIANTS)


@pytest.mark.parametrize("row", VARIANTS, ids=lambda row: row.name)
def test_the_docstring_of_a_method_names_its_variants(row):
    method = next(one for one in LANDSCAPE if one.name == row.of)
    text = " ".join(inspect.getdoc(method.build).split())
    assert f"`variants.{row.name}`" in text


def test_a_docstring_says_what_is_not_offered():
    assert "auxiliary head for the velocity, which is not offered" in " ".join(inspect.getdoc(fm.methods.imf).split())


def test_every_method_on_the_page_exists_and_the_agreeing_ones_are_methods():
    names = {row.name for row in LANDSCAPE}
    assert {name for row in ROWS for name in re.findall(r"fm\.methods\.(\w+)`", row[0])} <= names
    agreeing = PAGE.partition("## Equal to the code")[2].partition("\nNo official")[0]
    listed = set(re.findall(r"\b[a-z_]{2,}\b", agreeing.partition("\n- ")[2])) & names
    assert len(listed) > 24 and "dmf" not in listed and "alphaflow" not in listed


def test_a_map_of_edms_grid_is_sampled_as_the_page_says(recwarn):
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8), only_target=0.0)
    build = fm.methods.variants.ict_cifar10
    quiet = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 16}
    flow = fm.fit(flow, build(), torch.randn(64, 2), steps=1, **quiet).ema
    noise = torch.randn(8, 2)
    sample = fm.sample(flow, 80 / 81 * noise, times=[80 / 81, 0])
    torch.testing.assert_close(sample, flow(80 / 81 * noise, 80 / 81, 0.0).detach())
    assert not [warning for warning in recwarn if "trained" in str(warning.message)]
