"""The declared versions of dependencies are the ones that the tests run with."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import flowmaps as fm

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.M)
}
NOT_INSTALLED = {"torchvision", "jax", "soundfile"}
"""Packages that the environment of the tests does not have."""


def requirements():
    """The requirements of the package and of its extras, without the package itself."""
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    found = map(Requirement, [*PROJECT["dependencies"], *extras])
    return [one for one in found if one.name != "flowmaps" and one.name not in NOT_INSTALLED]


def test_each_lower_bound_is_a_tested_version():
    """A bound is the pinned version, cut to its own number of parts: 2.13 for 2.13.0."""
    for one in requirements():
        [bound] = [Version(part.version) for part in one.specifier if part.operator == ">="]
        tested = PINNED[canonicalize_name(one.name)]
        assert tested.release[: len(bound.release)] == bound.release, f"{one} was tested with {tested}"


def test_each_requirement_of_the_tests_is_pinned():
    assert {canonicalize_name(one.name) for one in requirements()} <= set(PINNED)


def test_the_version_is_the_same_everywhere():
    changes = re.findall(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert PROJECT["version"] == fm.__version__ == cited
    assert PROJECT["version"] == next(version for version in changes if version != "Unreleased")
