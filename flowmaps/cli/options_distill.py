"""The options of `flowmaps distill`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .options_shared import Keeping, Learning


@dataclass(frozen=True, kw_only=True)
class Distill(Keeping, Learning):
    """Make a flow map of a pretrained model: a pipeline of diffusers, or a run of `train`.

    Example: flowmaps distill ./my-pipeline --method ayf_emd --data photos --lora 64 --guidance 1:8 --out runs/fast
    """

    folder: Annotated[Positional[str], arg(metavar="FOLDER")]
    """The folder of a pipeline, its name on the Hugging Face hub, or a run folder."""
    data: str | None = None
    """Images, or ready latents, or a folder that an earlier --cache made: as DATA of `train`. Methods that learn
    without data need none."""
    data_args: tuple[str, ...] = ()
    """Options of the data set, as name=value."""
    prompts: Path | None = None
    """A file with a prompt on each line: one for each image, or what to learn from without images. None: the captions
    that come with the images."""
    negative_prompt: str | None = None
    """The prompt to guide away from. None: the empty one."""
    method: str = "ayf_emd"
    """Name of a method that distils; `flowmaps methods` lists them."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as name=value; functions as in Python."""
    lora: int | None = None
    """Train low-rank additions of this rank and leave the model's own weights. None: train all weights."""
    lora_targets: tuple[str, ...] = ()
    """The layers that --lora adds to, by the last parts of their names: to_q to_k to_v conv1 conv2. None: those of
    attention and feed-forward layers."""
    guidance: str | None = None
    """Learn guided samples: at one scale, 3, which is baked in, or told the scale, drawn from a range, 1:8."""
    guidance_interval: str | None = None
    """The times between which guidance acts, such as 0.2:0.8. None: all."""
    times: Literal["added", "decoupled", "source"] | None = None
    """How the network is told where to jump to: by a new embedding, by showing late layers the target time, or not at
    all, for maps to the data alone. None: added, or source for methods that learn no other."""
    dropout: float = 0.0
    """Share of rows without their class or text, so that what is learned can be guided itself."""
    classes: int | None = None
    """Number of classes of a class-conditional model; the class after them is the one for no class. None: as the data
    or the model have it."""
    moments: bool = False
    """Draw the latent of an image anew each time it is seen, instead of keeping its mean."""
    cache: Path | None = None
    """Folder for encoded images and prompts. None: runs/cache-FOLDER-DATA."""
    component: str | None = None
    """Which network, of pipelines that have two."""
    variant: str | None = None
    """Which files of weights, such as fp16. None: the main ones."""
    checkpoint: bool = False
    """Let the network keep less for the backward pass, which computes the rest again."""
    steps: int = 5000
    """Training steps."""
    batch_size: int = 64
    """Rows of one training step."""
    lr: float = 1e-4
    """Largest learning rate; it warms up, then falls linearly to 1% of this."""
    clip: float | None = 1.0
    """Largest norm of the gradient. None: no clipping."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Run folder. None: runs/FOLDER-METHOD."""
    dry_run: bool = False
    """Try three steps of two rows, keep nothing, and say what a whole run takes."""
