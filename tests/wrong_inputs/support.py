"""Wrong inputs as expressions, and the check that each is refused with a sentence of this package."""

import copy
import functools
import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import flowmaps as fm
from flowmaps.cli.failures import is_deliberate


def cases(text):
    """One expression from each line; comments and empty lines are left out."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


class Writes:
    """A velocity that writes into its input."""

    path = fm.path.linear

    def velocity(self, x, t):
        return x.mul_(2)


class WritingNetwork(torch.nn.Module):
    """A network that writes into its input."""

    def forward(self, x, s, t):
        return x.mul_(2)


class OneTime(torch.nn.Module):
    """A network of a diffusion model, which has one time."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, t):
        return x * self.weight


@functools.cache
def made(name):
    """Objects that the expressions share; they are never trained."""
    torch.manual_seed(0)
    if name == "flow":
        return fm.FlowMap(fm.networks.MLP(2, 8, 1))
    if name == "scripted":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated
            return torch.jit.trace(fm.networks.MLP(2, 8, 1), (torch.randn(3, 2), torch.rand(3), torch.rand(3)))
    if name == "classes":
        return fm.FlowMap(fm.networks.MLP(2, 8, 1, classes=3))
    return fm.FlowMap(fm.networks.MLP((1, 8, 8), 8, 1))


NAMES = {
    "fm": lambda: fm, "torch": lambda: torch, "np": lambda: np, "pd": lambda: pd, "math": lambda: math,
    "functools": lambda: functools, "copy": lambda: copy, "nan": lambda: math.nan, "inf": lambda: math.inf,
    "flow": lambda: made("flow"), "classes": lambda: made("classes"), "images": lambda: made("images"),
    "network": lambda: made("flow").network, "gaussian": lambda: fm.exact.Gaussian([0.5, -0.5]),
    "x": lambda: torch.randn(4, 2), "rows": lambda: torch.randn(40, 2), "whole": lambda: torch.randint(9, (4, 2)),
    "method": fm.methods.imf, "lsd": fm.methods.lsd, "label": lambda: torch.tensor([0, 1, 2, 0]),
    "writes": Writes, "writing": lambda: fm.FlowMap(WritingNetwork()),
    "meta": lambda: torch.empty(4, 2, device="meta"), "scripted": lambda: made("scripted"), "OneTime": lambda: OneTime,
    "frame": lambda: pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4]}),
    "data": lambda: fm.data.load("gaussian"), "digits": lambda: fm.data.load("digits"),
}  # fmt: skip
"""Makes each name that an expression may have, anew for each expression."""


def names(expression):
    """The names in an expression."""
    words = set(re.findall(r"\w+", expression))
    return {name: make() for name, make in NAMES.items() if name in words}


def refuse(expression, **more):
    """Check that an expression raises ValueError or TypeError by a `raise` of this package, with a sentence."""
    with pytest.raises((ValueError, TypeError)) as found:
        eval(expression, {**names(expression), **more})
    text = str(found.value)
    assert is_deliberate(found.value), f"not a sentence of this package: {text}"
    assert re.match(r"[A-Za-z\[(\"'/0-9.`<]", text) and len(text) > 15 and "\n" not in text, text
