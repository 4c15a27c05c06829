"""The options of `flowmaps distill`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .options_shared import Keeping, Learning


@dataclass(frozen=True, kw_only=True)
class Distill(Keeping, Learning):
    """Distil a pretrained model into a flow map: a pipeline of diffusers, or a run of `train`.

    Example: flowmaps distill ./my-pipeline --method ayf_emd --data ./photos --lora 64 --guidance 1:8 --out runs/fast
    """

    folder: Annotated[Positional[str], arg(metavar="FOLDER")]
    """The folder of a pipeline, its name on the Hugging Face hub, or a run folder."""
    data: str | None = None
    """Images, latents, or a folder that an earlier --cache made, given as DATA of `train`. Data-free methods need
    none."""
    data_args: tuple[str, ...] = ()
    """Options of the data set, as name=value."""
    standardise: bool = True
    """Standardise the columns of a table for training; samples come back in its units. --no-standardise (the same as
    --data-args standardise=False) keeps its numbers. Rows of several axes are standardised by --data-args
    standardise=True."""
    prompts: Path | None = None
    """File with a prompt on each line: one for each image, or prompts alone, without images. None: the captions of the
    images."""
    negative_prompt: str | None = None
    """Prompt to guide away from. None: the empty prompt."""
    method: str = "ayf_emd"
    """Name of a distillation method; `flowmaps methods` lists them. Or a function of your own, MODULE:NAME."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as name=value; functions as in Python."""
    lora: int | None = None
    """Rank of LoRA, which leaves the model's own weights unchanged. None: train all weights."""
    lora_targets: tuple[str, ...] = ()
    """Layers that get LoRA, by the last parts of their names: to_q to_k to_v conv1 conv2. None: attention and
    feed-forward layers."""
    guidance: str | None = None
    """Learn guided samples: 3 bakes in one scale, 1:8 trains a guidance-conditioned network on scales from this range.
    """
    guidance_interval: str | None = None
    """Times between which guidance acts, such as 0.2:0.8. None: all."""
    times: Literal["added", "decoupled", "source"] | None = None
    """How the network gets the target time: by a new embedding (added), in its late layers only (decoupled), or not at
    all, for maps to the data alone (source). None: source if the method learns only such maps, else added."""
    dropout: float = 0.0
    """Share of rows without their class or text, so that the flow map itself can be guided."""
    classes: int | Path | None = None
    """Number of classes of a class-conditional model, without the null class after them, or a file with the name of
    each on a line, in the order of their numbers. None: taken from the model or the data."""
    moments: bool = False
    """Sample the latent of an image anew each time it is read, instead of using its mean."""
    cache: Path | None = None
    """Folder for encoded images and prompts. None: runs/cache-FOLDER-DATA."""
    component: str | None = None
    """Name of the network to distil, for pipelines with two."""
    variant: str | None = None
    """Variant of the weight files, such as fp16. None: the main files."""
    checkpoint: bool = False
    """Recompute activations in the backward pass, to save memory."""
    on_policy: int | None = None
    """Learn the jumps at the states of the student's own sampler with this number of jumps; no data are needed. None:
    at the method's own states."""
    steps: int = 5000
    """Training steps."""
    batch_size: int = 64
    """Rows of one training step."""
    lr: float = 1e-4
    """Largest learning rate; it warms up, then falls linearly to 1% of this."""
    clip: float | None = 1.0
    """Largest norm of the gradient. None: no clipping."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Run folder. None: runs/FOLDER-METHOD, with a number if that exists."""
    dry_run: bool = False
    """Try three steps of two rows, write nothing, and print the cost of the whole run."""
