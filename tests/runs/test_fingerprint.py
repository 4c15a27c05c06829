"""Fingerprints of objects: the same in every process, others for other contents, without weights in training."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.runs.fingerprint import fingerprint
from tests.training.support import chasing, linear_flow, slowing_average

SCALE = 2.0


def scaled(x):
    """A function that reads a number of its module."""
    return SCALE * x


class Plain:
    """An object without a description."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def call(self, x):
        return x


class Slots:
    __slots__ = ("value",)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(2, 2)


def with_default(value):
    def function(x, scale=value):
        return scale * x

    return function


@functools.wraps(scaled)
def around(x):
    return scaled(x)


def wrapping(value):
    inner = with_default(value)

    @functools.wraps(inner)
    def outer(x):
        return inner(x)

    return outer


PAIRS = {
    "tensor": (torch.zeros(3), torch.ones(3)),
    "tensor of another dtype": (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
    "scalar": (torch.tensor(1.0), torch.tensor(2.0)),
    "array": (np.zeros(3), np.ones(3)),
    "whole number of numpy": (np.int64(1), np.int64(2)),
    "module": (net(0), net(1)),
    "module in an object": (Plain(_net=net(0)), Plain(_net=net(1))),
    "modules in a list": (Plain(nets=[net(0), net(0)]), Plain(nets=[net(0), net(1)])),
    "number of an object": (Plain(scale=1.0), Plain(scale=2.0)),
    "object in an object": (Plain(inner=Plain(x=torch.zeros(2))), Plain(inner=Plain(x=torch.ones(2)))),
    "method": (Plain(scale=1.0).call, Plain(scale=2.0).call),
    "builtin": (torch.sin, torch.cos),
    "set": ({"a", "b"}, {"a", "c"}),
    "path": (Path("a"), Path("b")),
    "default": (with_default(1.0), with_default(2.0)),
    "wrapped": (wrapping(1.0), wrapping(2.0)),
    "partial": (functools.partial(scaled, 1), functools.partial(scaled, 2)),
    "code": (lambda x: x + 1, lambda x: x + 2),
    "code within code": (lambda x: (lambda y: y + 1)(x), lambda x: (lambda y: y + 2)(x)),
    "exact": (fm.exact.Gaussian(torch.zeros(2)), fm.exact.Gaussian(torch.ones(2))),
    "decay": (
        fm.velocity.averaged(lambda progress: 0.5 * progress), fm.velocity.averaged(lambda progress: 0.9 * progress),
    ),
    "text dropout": (
        fm.data.transforms.TextDropout(0.1, {"text": torch.zeros(1, 2)}),
        fm.data.transforms.TextDropout(0.1, {"text": torch.ones(1, 2)}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_other_contents_have_another_fingerprint(name):
    one, other = PAIRS[name]
    assert fingerprint(one) == fingerprint(one) != fingerprint(other)
    assert json.loads(json.dumps(fingerprint(one))) == fingerprint(one) and " at 0x" not in json.dumps(fingerprint(one))


def test_a_number_of_the_module_is_noted(monkeypatch):
    assert fingerprint(scaled)["globals"] == {"SCALE": 2.0}
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert fingerprint(scaled)["globals"] == {"SCALE": 3.0}


def test_a_docstring_is_no_code():
    def one(x):
        """One text."""
        return x

    def other(x):
        """Another text."""
        return x

    assert fingerprint(one)["code_sha256"] == fingerprint(other)["code_sha256"]


def test_objects_that_hold_themselves_and_objects_without_fields_end():
    one = Plain()
    one.own, one.more = one, [one]
    assert "holds" in fingerprint(one)
    for item in (Slots(), object(), sys.stdout, torch.Generator(), open, iter([])):
        json.dumps(fingerprint(item))


def test_weights_in_training_are_left_out_and_the_others_are_not():
    for method in (fm.methods.imf(weight=fm.weight.learned(8)), chasing(), slowing_average()):
        flow = linear_flow()
        method.follow(flow)
        own = [*method.parameters(), *method.buffers()]
        first = fingerprint(method.terms, own)
        for weight in method.parameters():
            weight.data.add_(1)
        assert fingerprint(method.terms, own) == first
    student, teacher = linear_flow(0), linear_flow(1)
    first = fingerprint(fm.methods.lmd(teacher=teacher).terms, student.parameters())
    student.network.linear.weight.data.add_(1)
    assert fingerprint(fm.methods.lmd(teacher=teacher).terms, student.parameters()) == first
    teacher.network.linear.weight.data.add_(1)
    assert fingerprint(fm.methods.lmd(teacher=teacher).terms, student.parameters()) != first


def test_samples_miss_one_number_of_many_and_a_whole_digest_does_not():
    one, other = nn.Linear(100, 100), nn.Linear(100, 100)
    other.load_state_dict(one.state_dict())
    other.weight.data[50, 51] += 1
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one, whole=True) != fingerprint(other, whole=True)


def test_a_large_tensor_is_sampled(monkeypatch):
    monkeypatch.setattr("flowmaps.runs.fingerprint.SMALL", 1000)
    monkeypatch.setattr("flowmaps.runs.fingerprint.SAMPLE", 10)
    one = torch.zeros(1000)
    missed, seen = one.clone(), one.clone()
    missed[101], seen[100] = 1, 1
    assert fingerprint(one) == fingerprint(missed) != fingerprint(seen)
    assert fingerprint(one, whole=True) != fingerprint(missed, whole=True)


def test_tensors_without_numbers_have_no_digest():
    lazy = nn.LazyLinear(3)
    with torch.device("meta"):
        meta = nn.Linear(2, 2)
    for item in (meta, meta.weight, lazy, torch.eye(2).to_sparse()):
        assert "sha256" not in json.dumps(fingerprint(item))


ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.runs.test_fingerprint import PAIRS, fingerprint
print(json.dumps({name: fingerprint(pair) for name, pair in PAIRS.items()}, sort_keys=True))
"""


@pytest.mark.slow
def test_another_process_with_another_order_of_hashes_has_the_same():
    root = Path(__file__).parents[2]
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        asked = subprocess.run(
            [sys.executable, "-c", ASK, str(root)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        found.append(json.loads(asked.stdout))
    assert found[0] == found[1]
