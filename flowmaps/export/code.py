"""The source files of exported folders: gathered from this package, and the same text again for a check."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..serialise import find
from .source import PACKAGE, Name, gathered

MADE_OF = "# made of "
"""Start of the line of a file that names its template and its definitions."""


@dataclass(frozen=True)
class Template:
    """A class of `export.templates`, which a file of an exported folder defines.

    Attributes:
        stem: Name of the file without its checksum.
        about: First line of its docstring; {stock} is the base class.
        home: Module in `export.templates`.
        name: The class.
        stock: Its base class of diffusers in the template, in whose place another may be. "": always the same.
    """

    stem: str
    about: str
    home: str
    name: str
    stock: str = ""


_NETWORK = "A flow map as a model of diffusers: the class FlowMapNetwork and its parts."
_MODEL = "A {stock} of diffusers as a flow map: the class FlowMapModel and its parts."
_SAMPLES, _RESTART = "Samples of a flow map.", "Steps of a map to the data alone."
TEMPLATES = {
    "network": Template("flow_map_network", _NETWORK, "network", "FlowMapNetwork"),
    "model": Template("flow_map_model", _MODEL, "model", "FlowMapModel", "UNet2DConditionModel"),
    "pipeline": Template("flow_map_pipeline", _SAMPLES, "pipeline", "FlowMapPipeline"),
    "unet_pipeline": Template("flow_map_pipeline", _SAMPLES, "pipeline", "FlowMapUNetPipeline"),
    "latent_unet_pipeline": Template("flow_map_pipeline", _SAMPLES, "pipeline", "FlowMapLatentUNetPipeline"),
    "stock_pipeline": Template(
        "flow_map_pipeline", _SAMPLES, "stock_pipeline", "FlowMapPipeline", "StableDiffusionPipeline"
    ),
    "restart": Template("flow_map_restart", _RESTART, "restart", "FlowMapRestartScheduler"),
}


@dataclass(frozen=True)
class Code:
    """One file of source code.

    Attributes:
        template: Key of TEMPLATES.
        names: Public names of the definitions that it has besides.
        stock: The base class of diffusers, for a template in which it may be another. "": the template's own.
    """

    template: str
    names: tuple[str, ...] = ()
    stock: str = ""

    @property
    def defines(self) -> str:
        """The class that it is written for."""
        return TEMPLATES[self.template].name

    @cached_property
    def text(self) -> str:
        """The code, which needs torch and diffusers alone."""
        template = TEMPLATES[self.template]
        wanted = [(f"{PACKAGE}.export.templates.{template.home}", template.name), *map(home_of, self.names)]
        head = (
            f'"""{template.about.format(stock=self.stock or template.stock)}\n\n'
            f'Written by flowmaps {made_by()}, Apache-2.0. It needs torch and diffusers alone.\n"""\n\n'
            f"{MADE_OF}{json.dumps({'template': self.template, 'names': self.names, 'stock': self.stock})}\n\n"
        )
        body = gathered(*wanted)
        if self.stock:
            body = body.replace(f"import {template.stock} as Stock", f"import {self.stock} as Stock")
        return head + body

    @property
    def module(self) -> str:
        """The name of the module, with a checksum because diffusers keeps the code of all folders together."""
        return f"{TEMPLATES[self.template].stem}_{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"

    def write(self, folder: Path) -> str:
        """Write the file to a folder and return the name of the module."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.module}.py").write_text(self.text, encoding="utf-8")
        return self.module


def read_code(path: Path, stocks: Sequence[str]) -> Code:
    """Read a file of source code, if it is byte for byte one that `Code.write` writes. Nothing of it is run.

    Args:
        path: The file.
        stocks: The base classes that may be in the place of a template's own.

    Returns:
        The code, made again by this package.

    Raises:
        ValueError: If it is another text, or this version of the package writes another.
    """
    made = next((line for line in _lines(path) if line.startswith(MADE_OF)), MADE_OF)
    try:
        known = json.loads(made.removeprefix(MADE_OF))
        code = Code(known["template"], tuple(known["names"]), known["stock"])
        template = TEMPLATES[code.template]
        fits = code.stock == "" if not template.stock else code.stock in ("", *stocks)
        same = fits and path.name == f"{code.module}.py" and path.read_bytes() == code.text.encode()
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise ValueError(
            f"{path} is not the code that flowmaps {made_by()} writes, so it was not run: export the run again with "
            "this version"
        )
    return code


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []


def names_in(description: Any) -> list[str]:
    """List the public names of the classes and functions that a description names."""
    if isinstance(description, list):
        return [name for item in description for name in names_in(item)]
    if not isinstance(description, dict):
        return []
    here = [description[key] for key in ("type", "function") if isinstance(description.get(key), str)]
    return list(dict.fromkeys(here + [name for item in description.values() for name in names_in(item)]))


def home_of(name: str) -> Name:
    """Return the module and the name in it of a public name. Raises ValueError if it is not public."""
    thing = find(name)
    return thing.__module__, thing.__qualname__


def made_by() -> str:
    """Return the version of this package."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "(no version)"
