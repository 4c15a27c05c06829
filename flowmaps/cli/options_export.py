"""The options of `flowmaps export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .options_shared import Common


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Write a run as a pipeline folder that plain diffusers loads and samples, with a model card.

    Example: flowmaps export runs/digits exported --onnx
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """The folder to write; an earlier export there is replaced, anything else is refused."""
    base: str | None = None
    """Pipeline (a folder, or a name on the hub) with the other parts, which are copied. None: the run's pipeline, from
    its folder or from the local cache of the hub."""
    onnx: bool = False
    """Also write one_step.onnx: noise to samples, compared in onnxruntime."""
    program: bool = False
    """Also write one_step.pt2: noise to samples, for torch.export.load."""
    adapter_only: bool = False
    """Write the adapter alone, of a run with --lora."""
    ema: bool = True
    """Use the averaged weights."""
    push_to_hub: str | None = None
    """Upload the written files as this model of the Hugging Face hub, OWNER/NAME, after they have been loaded once."""
    public: bool = False
    """Make the uploaded model public; by default it is private."""
