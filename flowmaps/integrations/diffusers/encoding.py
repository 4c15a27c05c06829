"""The encoders of a pipeline, applied to images and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import Data
from ...data.labels import condition_of
from ...data.sources import Finite, IndexedRows, SubsetRows
from .autoencoders import autoencoder
from .folder import Loaded, Saved
from .latents import Latents
from .text import Texts


@dataclass(frozen=True)
class AllRows:
    """All rows of a data set, in their original order.

    Attributes:
        rows: The rows.
        held: (N,), whether a row is held out.
    """

    rows: IndexedRows
    held: Tensor


def all_rows(data: Data) -> AllRows:
    """Return all rows of a finite data set.

    Raises:
        ValueError: For a data set that is not finite or has transforms.
    """
    source = data.source
    if not isinstance(source, Finite):
        raise ValueError(
            f"{data.name} is no finite set of rows without transforms, which alone can be encoded once: give a folder "
            "of images, an array or a Hugging Face data set"
        )
    train, test = source.train, source.test
    if not isinstance(train, SubsetRows):
        raise ValueError(f"the rows of {data.name} cannot be read in their order")
    held = torch.ones(len(train.rows), dtype=torch.bool)
    held[train.index] = False
    if isinstance(test, SubsetRows):
        assert test.rows is train.rows, "both parts of a set that was split are parts of one table"
    return AllRows(train.rows, held)


@dataclass
class Encoding:
    """The encoders of a pipeline, each loaded when it is first needed.

    Attributes:
        pipeline: The pipeline.
        size: Size of the images in pixels. None: the pipeline's own.
        moments: Whether latents are stored as mean and standard deviation.
        dtype: Dtype of the results. None: the dtype of the encoders.
        batch_size: Images or texts that are encoded at a time.
        device: Device of the encoders.
    """

    pipeline: Saved | Loaded
    size: tuple[int, ...] | None
    moments: bool
    dtype: torch.dtype | None
    batch_size: int
    device: torch.device

    @cached_property
    def latents(self) -> Latents:
        """The VAE."""
        return Latents(self.pipeline, self.size).to(self.device)

    @property
    def has_vae(self) -> bool:
        """Whether the pipeline has a VAE, of whatever name."""
        return autoencoder(self.pipeline) is not None

    def are_latents(self, data: Data) -> bool:
        """Tell whether rows need no encoding, because they are latents or the pipeline has no VAE."""
        return not self.has_vae or (data.kind != "images" and data.shape[0] == self.latents.channels)

    def about(self, data: Data | None, classes: int | None) -> dict[str, Any]:
        """Describe the rows of the cache: name, shape, kind, classes and levels.

        Args:
            data: The images. None: prompts or class labels alone.
            classes: Number of classes, without images.

        Returns:
            The description, for the manifest of the cache.

        Raises:
            ValueError: For images that the VAE cannot encode.
        """
        kind = "vectors" if self.has_vae else "images"
        if data is None:
            name = Path(self.pipeline.name).name
            known = {"name": name, "shape": self.latents.shape, "kind": kind, "classes": classes}
            return known | {"class_names": None, "levels": None, "moments": False}
        same = {key: getattr(data, key) for key in ("name", "classes", "class_names")}
        if self.are_latents(data):
            kind = kind if self.has_vae else data.kind
            return same | {"shape": data.shape, "kind": kind, "levels": data.levels, "moments": False}
        wanted = getattr(self.latents.vae.config, "in_channels", 3)
        if data.kind != "images" or data.shape[0] != wanted:
            raise ValueError(
                f"the VAE of {self.pipeline.name} encodes images of {wanted} channels, and its latents have "
                f"{self.latents.channels}; rows of {data.name} have the shape {data.shape}, which is neither"
            )
        if self.moments and self.latents.is_quantised:
            raise ValueError(
                f"the VAE of {self.pipeline.name} has one latent for each image and no distribution, so `moments` does "
                "not apply: leave it out"
            )
        channels, *sides = Latents(self.pipeline, data.shape[1:]).shape
        shape = (2 * channels if self.moments else channels, *sides)
        return same | {"shape": shape, "kind": kind, "levels": None, "moments": self.moments}

    @cached_property
    def encoder(self) -> Texts:
        """The text encoders."""
        return Texts(self.pipeline, self.size).to(self.device)

    def texts(self, texts: Sequence[str], rows: range) -> dict[str, Tensor]:
        """Encode some of the texts to conditions.

        Args:
            texts: All texts.
            rows: Indices of the texts to encode.

        Returns:
            Conditions by name, one row for each text.
        """
        return self._joined(rows, lambda part: self.encoder.encode([texts[i] for i in part]))

    def images(self, table: AllRows, are_latents: bool, rows: range) -> dict[str, Tensor]:
        """Encode some of the images to latents, with the labels and conditions of their rows.

        Args:
            table: All images.
            are_latents: Whether they need no encoding.
            rows: Indices of the images to encode.

        Returns:
            Columns by name, one row for each image.
        """

        def encoded(part: range) -> dict[str, Tensor]:
            batch = table.rows.take(torch.arange(part.start, part.stop))
            x0 = batch.x0 if are_latents else self._latent(batch.x0.to(self.device))
            return {"x0": x0, **(condition_of(batch, labels=True) or {})}

        return self._joined(rows, encoded)

    @torch.no_grad()
    def _latent(self, images: Tensor) -> Tensor:
        """Encode images to latents (B, C, h, w), or to means and standard deviations (B, 2 C, h, w)."""
        latents = self.latents
        if not self.moments:
            return latents.encode(images)
        posterior = latents.posterior(images)
        return torch.cat([(posterior.mode() - latents.shift) * latents.scale, posterior.std * latents.scale.abs()], 1)

    def _joined(self, rows: range, encoded: Callable[[range], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        parts = [
            encoded(range(at, min(at + self.batch_size, rows.stop)))
            for at in range(rows.start, rows.stop, self.batch_size)
        ]
        return {name: torch.cat([self._stored(part[name]) for part in parts]) for name in parts[0]}

    def _stored(self, value: Tensor) -> Tensor:
        """Move a tensor to the CPU and to the dtype of the cache."""
        return value.detach().to("cpu", self.dtype if value.is_floating_point() else None)
