"""A pipeline of diffusers as a pretrained model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..data import Data, load, no_data
from ..data.cache import is_cache, read_manifest
from ..data.caching import refuse_other
from ..data.class_names import Numbering
from ..data.hugging_face import is_saved
from ..data.prompts import read_lines
from ..integrations.diffusers import teacher
from ..integrations.diffusers.autoencoders import autoencoder
from ..integrations.diffusers.cache import cached
from ..integrations.diffusers.fingerprints import of_pipeline
from ..integrations.diffusers.folder import id2label, networks, opened
from ..integrations.diffusers.latents import Latents, default_size
from ..methods import Row
from .pretrained_sources import SourceOptions
from .trained_run import data_of


class PipelineSource:
    """The network of a pipeline, its conditions, and its data, encoded if needed.

    Args:
        folder: Folder of the pipeline, or its name on the Hugging Face hub.
        options: Options of the model.
    """

    def __init__(self, folder: str, options: SourceOptions) -> None:
        self.options = options
        self.pipeline = opened(folder, options.variant)

    @property
    def name(self) -> str:
        """Last part of its path or name."""
        return last_part(self.pipeline.name)

    @property
    def notes(self) -> dict[str, str]:
        """The pipeline."""
        return {"folder": self.pipeline.name}

    @cached_property
    def read(self) -> Any:
        """The teacher, read once."""
        dtype = torch.bfloat16 if self.options.half else None
        return teacher(self.pipeline, component=self.options.component, dtype=dtype)

    def teacher(self) -> Any:
        """Its velocity."""
        return self.read

    @cached_property
    def has_vae(self) -> bool:
        """Whether the network makes latents. Raises ValueError if that cannot be told."""
        return autoencoder(self.pipeline) is not None

    @property
    def takes(self) -> tuple[str, ...]:
        """The conditions that its network accepts."""
        return tuple(self.read.network.takes)

    @property
    def embedded(self) -> int:
        """Number of class embeddings of the network, including the null class."""
        config = self.read.network.model.config
        known = config.get("num_embeds_ada_norm")
        return int(config.get("num_class_embeds") or 0) if known is None else int(known) + 1

    @cached_property
    def class_names(self) -> dict[int, str]:
        """The class names by number: from the option, else `id2label` of the pipeline or its network; {} if unknown."""
        given = self.options.classes
        if given is not None and not isinstance(given, int):
            return dict(enumerate(read_lines(given) if isinstance(given, str | Path) else given))
        return id2label(self.pipeline, self.options.component or networks(self.pipeline)[0])

    @property
    def known_classes(self) -> int | None:
        """Number of classes, from the option, the class names or a network with a null class of its own; else None."""
        given, of_dit = self.options.classes, "num_embeds_ada_norm" in self.read.network.model.config
        named = max(self.class_names, default=-1) + 1
        return given if isinstance(given, int) else self.embedded - 1 if of_dit else named or None

    def classes(self, data: Data | None) -> int | None:
        """Number of classes: known, or from the data or the network, in this order; None if it takes no class."""
        if "label" not in self.takes:
            return None
        return self.known_classes or (None if data is None else data.classes) or self.embedded

    @property
    def numbering(self) -> Numbering:
        """The classes of the network by number. Raises ValueError if the option does not fit the network."""
        count, names, where = self.known_classes or self.embedded, self.class_names, self.pipeline.name
        named = max(names, default=count - 1) + 1
        if max(count, named) > self.embedded or (isinstance(self.options.classes, int) and named != count):
            raise ValueError(
                f"the network of {where} has {self.embedded} class embeddings"
                + (f" and names for {named} classes" if names else "")
                + f", which does not fit `classes={count}`"
            )
        advice = "name its classes in the order of their numbers by `classes`, a file with a name on each line"
        owner, advice = f"the network of {where}", f"rename the classes of the data, or {advice}"
        return Numbering(owner, count, names, self.known_classes is not None, advice)

    def data(self, row: Row) -> Data:
        """The rows that a method learns from, encoded if needed.

        Args:
            row: The row of the method.

        Returns:
            Images, latents or vectors with the conditions of the network.

        Raises:
            ValueError: The method needs data, or the data or prompts do not fit the network.
        """
        options = self.options
        if options.data is None and not row.data_free:
            raise ValueError(f"{row.name} learns from data: `data=IMAGES`, or choose a data-free method, such as pid")
        if "text" not in self.takes and (options.prompts is not None or options.negative_prompt is not None):
            raise ValueError(f"the network of {self.pipeline.name} has no text conditioning, so it takes no prompts")
        named = isinstance(options.data, str | Path)
        if named and is_cache(Path(options.data)):
            return self.fitting(self.encoded_before(Path(options.data)))
        arguments = self.data_options(str(options.data)) if named else options.data_args
        data = None if options.data is None else data_of(options.data, arguments)
        if "text" in self.takes or (data is not None and data.kind == "images" and self.has_vae):
            return self.fitting(self.encoded(data, row))
        if data is not None:
            return self.fitting(data)
        kind = "vectors" if self.has_vae else "images"
        return no_data(Latents(self.pipeline).shape, self.classes(None), kind=kind)  # type: ignore[arg-type]

    def data_options(self, where: str) -> dict[str, Any]:
        """Options of a data set: defaults for this pipeline, updated with the given options.

        The defaults are captions if the network needs texts and, for a folder of images, the size and channels of the
        pipeline.
        """
        wanted: dict[str, Any] = {}
        if is_folder := Path(where).is_dir() and not is_saved(Path(where)):
            grey = not self.has_vae and self.read.network.channels == 1
            wanted = {"size": default_size(self.pipeline), "mode": "L" if grey else "RGB"}
        if "text" in self.takes and self.options.prompts is None and (is_folder or where.startswith("hf:")):
            wanted["captions"] = True
        return wanted | dict(self.options.data_args or {})

    def encoded(self, data: Data | None, row: Row) -> Data:
        """Latents and conditions, from the cache or encoded now.

        Args:
            data: Images with captions or classes. None: prompts alone.
            row: The row of the method.

        Returns:
            The data set in the cache.

        Raises:
            ValueError: Data are given and the method is data-free.
        """
        options = self.options
        if row.data_free and data is not None:
            raise ValueError(f"{row.name} is data-free: leave `data` out, and pass prompts as `prompts=FILE`")
        given = (options.data, options.prompts)
        known = next(
            (str(one) for one in given if isinstance(one, str | Path)), "prompts" if data is None else data.name
        )
        out = Path(options.cache or Path("runs") / f"cache-{self.name}-{last_part(known)}")
        options.say(f"Encoding images and prompts by {self.pipeline.name} into {out}")
        return cached(
            self.pipeline,
            data,
            options.prompts,
            out=out,
            negative=options.negative_prompt,
            classes=None if data is not None else self.classes(None),
            size=None if data is None or data.kind != "images" else data.shape[1:],
            moments=options.moments,
            device=options.device,
            report=lambda name, done, rows: options.say(f"  {name}: {done} of {rows}"),
        )

    def encoded_before(self, folder: Path) -> Data:
        """The data of a cache. Raises ValueError if another pipeline made it."""
        known = read_manifest(folder)["made"]
        refuse_other(folder, {"made": known}, {**known, "pipeline": of_pipeline(self.pipeline)})
        return load(folder)

    def fitting(self, data: Data) -> Data:
        """Check data against the network, and give their classes the numbers of the network.

        Raises:
            ValueError: The channels do not fit the network, a class is none of the network, or labels are missing.
        """
        network, where = self.read.network, self.pipeline.name
        if data.shape[0] != network.channels:
            raise ValueError(
                f"the network of {where} takes rows of {network.channels} channels, and {data.name} has rows of shape "
                f"{tuple(data.shape)}"
            )
        if "label" in network.needs and data.classes is None:
            raise ValueError(f"the network of {where} needs a class, and {data.name} has no class labels")
        return self.numbering.fit(data) if "label" in self.takes else data

    def empty(self, data: Data) -> dict[str, Any]:
        """The conditions without class or text. Raises ValueError for a model without a null condition."""
        if "text" in self.takes:
            return self.of_text(data, "")
        if "label" not in self.takes:
            raise ValueError(
                f"guidance needs a null class or an empty text, and the network of {self.pipeline.name} takes neither"
            )
        classes = self.classes(data)
        if "num_embeds_ada_norm" not in self.read.network.model.config and self.embedded != (classes or 0) + 1:
            raise ValueError(
                f"guidance needs a null class after the {classes} classes, and the network of {self.pipeline.name} has "
                f"{self.embedded} class embeddings: if the last one is the null class, pass "
                f"`classes={self.embedded - 1}`; else train a model with a null class and label dropout"
            )
        return {"label": self.embedded - 1}

    def null(self, data: Data) -> dict[str, Any]:
        """The negative prompt, or the conditions without class or text."""
        negative = self.options.negative_prompt
        return self.empty(data) if negative is None else self.of_text(data, negative)

    def of_text(self, data: Data, text: str) -> dict[str, Any]:
        """The conditions (1, ...) of a text, without the size. Raises ValueError if it was not encoded."""
        if data.prompts is None:
            raise ValueError(f"{data.name} has no encoded prompts, so {text!r} is not among them")
        return {name: value for name, value in data.prompts.conditions(text).items() if name != "size"}


def last_part(name: str) -> str:
    """The last part of a path or of a name on the hub."""
    return Path(name.removeprefix("hf:")).name
