"""The commands and their options, as typed dataclasses: what `--help` shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .options_shared import Common, Keeping, Learning


@dataclass(frozen=True, kw_only=True)
class Training(Learning):
    """What `train` and `compare` share."""

    network: Literal["auto", "mlp", "dit", "unet"] = "auto"
    """auto: the recipe for the data (`flowmaps.recipes`), an MLP for points, vectors and images of at most 1024 values,
    a U-Net for larger images."""
    width: int | None = None
    """Width of the network. None: the network's own default."""
    depth: int | None = None
    """Blocks of the network (a U-Net: blocks per resolution). None: the network's own default."""
    output: Literal["auto", "average-velocity", "endpoint", "position", "gaussian-skip"] = "auto"
    """What the network predicts; gaussian-skip: the average velocity less that of a Gaussian fitted to the data.
    auto: what the recipe for the data says, the average velocity where --network is given."""
    labels: bool = True
    """Make the network class-conditional where the data has class labels."""
    data_args: tuple[str, ...] = ()
    """Options of the data set, as name=value."""
    couplings: int = 50_000
    """Couplings of noise and data that a model makes for methods which are trained on them."""


@dataclass(frozen=True, kw_only=True)
class Train(Keeping, Training):
    """Train a flow map on DATA and keep everything in a run folder.

    Example: flowmaps train checkerboard --method imf --steps 2000 --out runs/board
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    """checkerboard, eight_gaussians, two_moons, spirals, gaussian, mixture, digits; a folder of images; a .npy, .npz or
    .safetensors file; or hf:NAME for a Hugging Face data set."""
    recipe: str | None = None
    """Everything but the data as in this recipe, where no other option says otherwise; `flowmaps plan` lists them."""
    reduced: bool = False
    """Try a recipe with a small network and three steps of eight rows."""
    checkpoint: bool = False
    """Let a recipe's network keep less for the backward pass, which computes the rest again."""
    method: str = "imf"
    """Name of the method; `flowmaps methods` lists them."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as name=value; functions as in Python: diagonal=0.5 "times=logit_normal_pairs(-0.4, 1)".
    """
    steps: int = 5000
    """Training steps."""
    seconds: float | None = None
    """Train for so many seconds instead of --steps. Such a run does not give the same numbers twice."""
    teacher: Path | None = None
    """Run folder of the trained model that a distillation method learns from."""
    guidance: str | None = None
    """Learn samples guided to their class: at one scale, 2, or told the scale, drawn from a range, 1:8. With --teacher,
    the teacher is what is guided, and has to know the null class."""
    guidance_interval: str | None = None
    """The times between which guidance acts, such as 0.2:0.8. None: all."""
    label_dropout: float | None = None
    """Share of rows whose label is left out, so that the network learns the null class, which guidance compares with.
    None: 0.1 with --guidance and without --teacher, else 0."""
    reflow: Path | None = None
    """Run folder of a model whose ODE couples noise with data: train on its couplings, which straighten the paths."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Run folder. None: runs/DATA-METHOD."""
    start: Path | None = None
    """Run folder of a model to start from; its network and output are taken over."""


@dataclass(frozen=True, kw_only=True)
class Sample(Common):
    """Draw samples from a trained run.

    Example: flowmaps sample runs/board --steps 1 -n 1000 -o samples.png
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    steps: int = 1
    """Steps from noise to data; one jump is what a flow map is for."""
    n: Annotated[int, arg(aliases=["-n"])] = 64
    """How many samples."""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("samples.png")
    """A picture (.png), of latents through the VAE of their pipeline, or the samples themselves as an array (.npy)."""
    step: Literal["auto", "jump", "euler", "heun", "ancestral", "restart"] = "auto"
    """How a step is made: a jump of the flow map; Euler or Heun steps of its velocity; a random step. auto: jumps, or
    restarts for several steps of a map that knows t = 0 alone."""
    label: int | None = None
    """Class to draw. None: the classes take turns."""
    prompt: tuple[str, ...] = ()
    """What to draw, of a run that is told a text. Several prompts take turns."""
    guidance: float | None = None
    """Scale of guidance, for a run that is told it, or the velocity of one that knows the null class. None: 1, or what
    is baked in."""
    guidance_interval: str | None = None
    """The times between which guidance acts, such as 0.2:0.8. None: all."""
    seed: int = 0
    """Fixes the noise."""
    ema: bool = True
    """Use the averaged weights."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Common):
    """Measure a run: distance to held-out data at 1, 2, 4, 8 jumps and 16, 100 ODE steps, with noise floor and cost.

    The table is kept in the run folder as evaluation.json.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    reference: Path | None = None
    """Another run, on the same data, to stand in the same table."""
    guidance: tuple[float, ...] | None = None
    """Scales of guidance for the table of a run with guidance. None: those of 1, 2 and 4 that it was trained on."""
    guidance_interval: str | None = None
    """The times between which guidance acts, such as 0.2:0.8. None: all."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """Write report.html for a run: one page with the table, samples, loss curves and more, that needs no network."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""


@dataclass(frozen=True, kw_only=True)
class Methods(Common):
    """List the methods, grouped by rule: learning setting, output, cost in forward passes, paper."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Explain(Common):
    """Show one method: its equation, what carries gradient, its terms with their times, weights and shares, its cost.

    Example: flowmaps explain imf --out imf.png
    """

    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """Name of the method; `flowmaps methods` lists them."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as for `train`."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Write the pictures to this .png (or .svg, .pdf) file too."""
    json: bool = False
    """Print JSON instead of text."""


@dataclass(frozen=True, kw_only=True)
class Compare(Training):
    """Train several methods on the same network, data and length, evaluate each, write one table and one page.

    What is finished in the folder already is kept, so the same command goes on where it was stopped. Distillation
    methods learn from --teacher, or else from a diffusion model that is trained first, for the same length.

    Example: flowmaps compare eight_gaussians --methods meanflow,lsd,shortcut --budget 2m
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    """As for `train`."""
    methods: str = "meanflow,imf,lsd,shortcut"
    """Names of methods, with commas between them."""
    budget: str | None = None
    """Time to train each method: 30s, 2m, 1h30m. Such runs do not give the same numbers twice."""
    steps: int | None = None
    """Training steps of each method instead of a --budget. None: 5000 where there is no budget."""
    teacher: Path | None = None
    """Run folder of the trained model that distillation methods learn from, and that makes couplings. None: one is
    trained for them."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Folder for the runs, table.md, table.json and report.html. None: runs/DATA-compare."""
    json: bool = False
    """Print the content of table.json instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Plan(Common):
    """Show what a recipe takes: parameters, memory of a GPU, operations, time, command lines. Without one, list them.

    Nothing is trained, and no GPU is needed.

    Example: flowmaps plan imagenet256-dit-xl2-meanflow --gpus 8 --rate 150 --memory 80
    """

    recipe: Annotated[Positional[str | None], arg(metavar="RECIPE")] = None
    """Name of the recipe."""
    gpus: int = 8
    """How many GPUs share a batch."""
    rate: float | None = None
    """What one GPU reaches in real steps, in TFLOPS (not what its data sheet says)."""
    memory: float | None = None
    """What one GPU has, in GB."""
    shard: bool = False
    """Spread weights, gradients, optimizer states and averages over the GPUs."""
    accumulate: int = 1
    """Parts of a GPU's rows that go one after another."""
    checkpoint: bool = False
    """The network keeps less for the backward pass, which computes the rest again."""
    batch_size: int | None = None
    """Rows of a step, over all GPUs. None: the recipe's."""
    steps: int | None = None
    """Training steps. None: the recipe's."""
    precision: Literal["no", "bf16"] | None = None
    """None: the recipe's."""
    method: str | None = None
    """Another method for the same network and data."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as for `train`."""
    json: bool = False
    """Print JSON instead of tables."""


Command = Train | Sample | Evaluate | Report | Methods | Explain | Compare | Plan
