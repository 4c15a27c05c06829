"""A pipeline of diffusers on the way to a student."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..data import Data, load, no_data
from ..data.cache import is_cache, read_manifest
from ..data.caching import refuse_other
from ..data.hugging_face import is_saved
from ..integrations.diffusers import teacher
from ..integrations.diffusers.cache import cached
from ..integrations.diffusers.fingerprints import of_pipeline
from ..integrations.diffusers.folder import opened
from ..integrations.diffusers.latents import Latents, default_size
from ..methods import Row
from .arguments import data_arguments
from .options_distill import Distill
from .tables import say


class Pipeline:
    """Its network, what the network is told, and the data for it, encoded where it needs that."""

    def __init__(self, options: Distill) -> None:
        self.options = options
        self.pipeline = opened(options.folder, options.variant)

    @property
    def name(self) -> str:
        return last_part(self.pipeline.name)

    @property
    def notes(self) -> dict[str, str]:
        return {"folder": self.pipeline.name}

    @cached_property
    def read(self) -> Any:
        """The teacher. The frozen weights of LoRA are kept in bf16 where the loss is in bf16."""
        half = self.options.lora is not None and self.options.precision == "bf16"
        return teacher(self.pipeline, component=self.options.component, dtype=torch.bfloat16 if half else None)

    def teacher(self) -> Any:
        return self.read

    @property
    def takes(self) -> tuple[str, ...]:
        return tuple(self.read.network.takes)

    @property
    def embedded(self) -> int:
        """How many classes the network has embeddings of, with that of no class where there is one."""
        config = self.read.network.model.config
        known = config.get("num_embeds_ada_norm")
        return int(config.get("num_class_embeds") or 0) if known is None else int(known) + 1

    def classes(self, data: Data | None) -> int | None:
        """The number of classes: as it was said, or as the data or else the network has it."""
        if "label" not in self.takes:
            return None
        of_data = None if data is None else data.classes
        of_dit = "num_embeds_ada_norm" in self.read.network.model.config
        return self.options.classes or of_data or self.embedded - of_dit

    def data(self, row: Row) -> Data:
        options = self.options
        if options.data is None and not row.data_free:
            raise ValueError(f"{row.name} learns from data: --data IMAGES, or choose a method that needs none, as pid")
        if "text" not in self.takes and (options.prompts is not None or options.negative_prompt is not None):
            raise ValueError(f"the network of {self.pipeline.name} is not told a text, so no prompts apply")
        if options.data is not None and is_cache(Path(options.data)):
            return self.fitting(self.encoded_before(Path(options.data)))
        data = None if options.data is None else load(options.data, **self.data_options(options.data))
        if "text" in self.takes or (data is not None and data.kind == "images" and self.pipeline.has("vae")):
            return self.fitting(self.encoded(data, row))
        if data is not None:
            return self.fitting(data)
        kind = "vectors" if self.pipeline.has("vae") else "images"
        return no_data(Latents(self.pipeline).shape, self.classes(None), kind=kind)  # type: ignore[arg-type]

    def data_options(self, where: str) -> dict[str, Any]:
        """Options of --data: those that were typed, captions where they are wanted and, for a folder of images, the
        size and channels of the pipeline.
        """
        wanted: dict[str, Any] = {}
        if is_folder := Path(where).is_dir() and not is_saved(Path(where)):
            grey = not self.pipeline.has("vae") and self.read.network.channels == 1
            wanted = {"size": default_size(self.pipeline), "mode": "L" if grey else "RGB"}
        if "text" in self.takes and self.options.prompts is None and (is_folder or where.startswith("hf:")):
            wanted["captions"] = True
        return wanted | data_arguments(self.options.data_args)

    def encoded(self, data: Data | None, row: Row) -> Data:
        """Latents and conditions, encoded now where the cache has them not."""
        options = self.options
        if row.data_free and data is not None:
            raise ValueError(f"{row.name} learns without data: leave --data out, prompts are given by --prompts FILE")
        out = options.cache or Path("runs") / f"cache-{self.name}-{last_part(options.data or str(options.prompts))}"
        say(f"Images and prompts as {self.pipeline.name} encodes them are kept in {out}")
        return cached(
            self.pipeline,
            data,
            options.prompts,
            out=out,
            negative=options.negative_prompt,
            classes=None if data is not None else self.classes(None),
            size=None if data is None or data.kind != "images" else data.shape[1:],
            moments=options.moments,
            report=lambda name, done, rows: say(f"  {name}: {done} of {rows}"),
        )

    def encoded_before(self, folder: Path) -> Data:
        """A cache. Raises ValueError where another pipeline made it."""
        known = read_manifest(folder)["made"]
        refuse_other(folder, {"made": known}, {**known, "pipeline": of_pipeline(self.pipeline)})
        return load(folder)

    def fitting(self, data: Data) -> Data:
        """Data that the network can be told. Raises ValueError for channels and classes that it does not know, and for
        labels that it needs and are not there.
        """
        network, where = self.read.network, self.pipeline.name
        if data.shape[0] != network.channels:
            raise ValueError(
                f"the network of {where} knows rows of {network.channels} channels, and {data.name} has rows of "
                f"{tuple(data.shape)}"
            )
        if "label" in network.needs and data.classes is None:
            raise ValueError(f"the network of {where} is told a class, and {data.name} has no class labels")
        if "label" in self.takes and data.classes and data.classes > self.embedded:
            raise ValueError(f"{where} knows {self.embedded} classes, and {data.name} has {data.classes}")
        return data

    def empty(self, data: Data) -> dict[str, Any]:
        if "text" in self.takes:
            return self.of_text(data, "")
        if "label" not in self.takes:
            raise ValueError(
                f"guidance compares with another class or text, and the network of {self.pipeline.name} is told none"
            )
        classes = self.classes(data)
        if "num_embeds_ada_norm" not in self.read.network.model.config and self.embedded != (classes or 0) + 1:
            raise ValueError(
                f"guidance compares with no class, the one after the {classes} classes, and the network of "
                f"{self.pipeline.name} has embeddings of {self.embedded}: where the last one is that of no class, say "
                f"--classes {self.embedded - 1}; else train a model with one more, and labels left out at random"
            )
        return {"label": self.embedded - 1}

    def null(self, data: Data) -> dict[str, Any]:
        negative = self.options.negative_prompt
        return self.empty(data) if negative is None else self.of_text(data, negative)

    def of_text(self, data: Data, text: str) -> dict[str, Any]:
        """What a text is encoded to, (1, ...), without the size, which has nothing to do with it."""
        if data.prompts is None:
            raise ValueError(f"{data.name} has no encoded prompts, so that there is no {text!r} among them")
        return {name: value for name, value in data.prompts.conditions(text).items() if name != "size"}


def last_part(name: str) -> str:
    """Of a path or a name on the hub."""
    return Path(name.removeprefix("hf:")).name
