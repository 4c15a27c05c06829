"""The commands and their options as typed dataclasses; `--help` shows their docstrings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .options_sample import Sample
from .options_shared import Common, Keeping, Learning


@dataclass(frozen=True, kw_only=True)
class Training(Learning):
    """Options that `train` and `compare` share."""

    network: Literal["auto", "mlp", "dit", "unet", "transformer", "autoregressive"] = "auto"
    """Kind of network. auto: the recipe for the data (`flowmaps.recipes`), an MLP for points, vectors and images of at
    most 1024 values, a U-Net for larger images, a transformer for tokens, for sound autoregressive: a head on a causal
    transformer over sequences of frames (T, C)."""
    width: int | None = None
    """Width of the network. None: the network's own default; for a U-Net that auto chooses, by images, device and
    length of training."""
    depth: int | None = None
    """Blocks of the network (a U-Net: blocks per resolution). None: as for --width."""
    output: Literal["auto", "average-velocity", "endpoint", "position", "gaussian-skip"] = "auto"
    """Prediction of the network. gaussian-skip: the average velocity minus the average velocity of a Gaussian fitted to
    the data. auto: chosen by the recipe for the data, or if --network is given the average velocity, of tokens
    probabilities."""
    batch_size: int | None = None  # type: ignore[assignment]
    """Rows of one training step, over all processes. None: 256, or fewer for large images on a CPU."""
    labels: bool = True
    """Make the network class-conditional if the data has class labels."""
    data_args: tuple[str, ...] = ()
    """Options of the data set, as name=value, such as labels=kind value_range=(0,255)."""
    standardise: bool = True
    """Standardise the columns of a table for training; samples come back in its units. --no-standardise (the same as
    --data-args standardise=False) keeps its numbers. Rows of several axes are standardised by --data-args
    standardise=True."""
    couplings: int = 50_000
    """Number of couplings of noise and data that a model makes, for methods that train on couplings."""


@dataclass(frozen=True, kw_only=True)
class Train(Keeping, Training):
    """Train a flow map on DATA and keep everything in a run folder.

    Example: flowmaps train checkerboard --method imf --steps 2000 --out runs/board
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    """checkerboard, eight_gaussians, two_moons, spirals, gaussian, mixture, digits, glyphs, photos, series; a folder of
    images; a .npy, .npz, .safetensors, .csv or .tsv file; text:PATH for a text file; audio:FOLDER for a folder of
    recordings; sphere:PATH, torus:PATH or rotations:PATH for a table of latitudes and longitudes, of angles or of
    quaternions; or hf:NAME for a Hugging Face data set."""
    recipe: str | None = None
    """Recipe for everything except the data; options that are given take precedence. `flowmaps plan` lists recipes."""
    reduced: bool = False
    """Try the recipe with a small network and three steps of eight rows."""
    checkpoint: bool = False
    """Recompute activations of the recipe's network in the backward pass, to save memory."""
    method: str | None = None
    """Name of the method, with the settings of its paper; `flowmaps methods` lists them. Or a function of your own,
    MODULE:NAME. None: imf, or lsd for at most three coordinates, with settings that were chosen by measurements."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as name=value; functions as in Python: diagonal=0.5 "times=logit_normal_pairs(-0.4, 1)".
    """
    steps: int = 5000
    """Training steps."""
    seconds: float | None = None
    """Train for this many seconds instead of --steps. Such a run does not give the same numbers twice."""
    teacher: Path | None = None
    """Run folder, or file of fm.save, of the trained model that a distillation method learns from."""
    guidance: str | None = None
    """Learn samples guided towards their class: 2 bakes in one scale, 1:8 trains a guidance-conditioned network on
    scales from this range. With --teacher the teacher is guided; it must know the null class."""
    guidance_interval: str | None = None
    """Times between which guidance acts, such as 0.2:0.8. None: all."""
    label_dropout: float | None = None
    """Share of rows without their label, which teaches the network the null class that guidance needs. None: 0.1 with
    --guidance and without --teacher or with --method self_e, else 0."""
    reflow: Path | None = None
    """Run folder or file of a model that couples noise with data by its ODE. Training on these couplings straightens
    paths."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Run folder. None: runs/DATA-METHOD, with a number if that exists."""
    start: Path | None = None
    """Run folder or file of a model to start from, with its network and output."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Common):
    """Measure a run: distance to held-out data at 1, 2, 4, 8 jumps and 16, 100 ODE steps, with noise floor and cost.

    The table is kept in the run folder as evaluation.json.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    reference: Path | None = None
    """Another run on the same data, for the same table."""
    guidance: tuple[float, ...] | None = None
    """Scales of guidance for the table of a run with guidance. None: 1, 2 and 4, as far as it was trained on them."""
    guidance_interval: str | None = None
    """Times between which guidance acts, such as 0.2:0.8. None: all."""
    quick: bool = False
    """Measure 1 and 4 jumps and 16 ODE steps with few samples: a first look, with larger errors."""
    n: Annotated[int | None, arg(aliases=["-n"])] = None
    """Samples on either side of a distance. None: 2048, or fewer for a large network."""
    steps: tuple[int, ...] | None = None
    """Numbers of jumps, such as 1 2. None: 1 2 4 8."""
    ode_steps: tuple[int, ...] | None = None
    """Numbers of ODE steps, such as 16. None: 16 100."""
    device: str = "cpu"
    """Device to sample on, such as cuda."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """Write report.html for a run: one self-contained page with the table, samples, loss curves and more.

    The run is evaluated first, unless its evaluation.json is of these weights.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    quick: bool = False
    """Evaluate the run now, quickly, as `flowmaps evaluate --quick` does."""
    device: str = "cpu"
    """Device to evaluate on, such as cuda."""
    open: bool = False
    """Open the page in the browser."""


@dataclass(frozen=True, kw_only=True)
class Explore(Common):
    """Write a page with instruments to touch: of a run, of two runs beside each other, or of the post.

    Example: flowmaps explore runs/board --open
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")] = ()
    """One run folder, or two."""
    post: bool = False
    """Write the page of the post, with flow maps that come with this package, instead of one of runs."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The file. None: explore.html in the folder of the first run; with --post explore.html here."""
    open: bool = False
    """Open the page in the browser."""


@dataclass(frozen=True, kw_only=True)
class Methods(Common):
    """List the methods, grouped by rule: learning setting, output, cost in forward passes, paper."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Explain(Common):
    """Show one method: its equation, its gradient, its terms with their times, weights and shares, and its cost.

    Example: flowmaps explain imf --out imf.png
    """

    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """Name of the method; `flowmaps methods` lists them. Or a function of your own, MODULE:NAME."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as for `train`."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Also draw the method into this .png, .svg or .pdf file."""
    json: bool = False
    """Print JSON instead of text."""


@dataclass(frozen=True, kw_only=True)
class Compare(Training):
    """Train several methods on the same network, data and length, evaluate each, and write one table and one page.

    Finished parts in the folder are kept, so the same command resumes an interrupted comparison. Distillation methods
    learn from --teacher, or else from a diffusion model that is trained first, for the same length.

    Example: flowmaps compare eight_gaussians --methods meanflow,lsd,shortcut --budget 2m
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    """As for `train`."""
    methods: str = "meanflow,imf,lsd,shortcut"
    """Names of methods, separated by commas; also functions of your own, MODULE:NAME."""
    budget: str | None = None
    """Processor time of each method, the sum over all threads: 30s, 2m, 1h30m. On a GPU: the time that passes. Such
    runs do not give the same numbers twice."""
    steps: int | None = None
    """Training steps of each method, instead of --budget. None: 5000 without a budget."""
    teacher: Path | None = None
    """Run folder of the model that distillation methods learn from and that makes couplings. None: one is trained."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Folder for the runs, table.md, table.json and report.html. None: runs/DATA-compare, with a number if that is
    another comparison."""
    json: bool = False
    """Print the content of table.json instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Plan(Common):
    """Show the cost of a recipe: parameters, memory of a GPU, operations, time, command lines. No recipe: list all.

    Nothing is trained, and no GPU is needed.

    Example: flowmaps plan imagenet256-dit-xl2-meanflow --gpus 8 --rate 150 --memory 80
    """

    recipe: Annotated[Positional[str | None], arg(metavar="RECIPE")] = None
    """Name of the recipe."""
    gpus: int = 8
    """Number of GPUs that share a batch."""
    rate: float | None = None
    """Measured speed of one GPU in training steps, in TFLOPS (its data sheet has a higher one). None: no hours."""
    memory: float | None = None
    """Memory of one GPU, in GB."""
    shard: bool = False
    """Shard weights, gradients, optimizer states and averages over the GPUs."""
    accumulate: int = 1
    """Number of parts in which a GPU processes its share of a batch."""
    checkpoint: bool = False
    """Recompute activations in the backward pass, to save memory."""
    batch_size: int | None = None
    """Rows of a step, over all GPUs. None: the recipe's."""
    steps: int | None = None
    """Training steps. None: the recipe's."""
    precision: Literal["no", "bf16"] | None = None
    """Precision of training. None: the recipe's."""
    method: str | None = None
    """Another method for the same network and data."""
    method_args: tuple[str, ...] = ()
    """Arguments of the method, as for `train`."""
    json: bool = False
    """Print JSON instead of tables."""


Command = Train | Sample | Evaluate | Report | Explore | Methods | Explain | Compare | Plan
