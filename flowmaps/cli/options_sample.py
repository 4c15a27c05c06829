"""The options of `flowmaps sample`, with and without steering."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .options_shared import Common


@dataclass(frozen=True, kw_only=True)
class Steering:
    """Options of steered samples."""

    reward: str | None = None
    """Steer towards a reward: label:7 or label:NAME, a class by a classifier; or a function of your own of samples
    (B, ...) to (B,), MODULE:NAME."""
    classifier: Path | None = None
    """File of the classifier for label:CLASS, such as classifier.safetensors of a run. None: the one of the run, which
    is trained on the labels of its data if it is missing."""
    infill: str | None = None
    """Complete a text: every _ is one free token, and the places after its end are free too. For runs on texts of
    characters or bytes."""
    inpaint: tuple[Path, str] | None = None
    """MASK IMAGE. Fill in the part of the image where the mask is white. MASK is a black and white picture of the size
    of the data. IMAGE is a picture of that size, or held-out:K for the K-th held-out image of the data."""
    deblur: tuple[float, str] | None = None
    """SIGMA IMAGE. Sharpen an image that was blurred by a Gaussian of SIGMA pixels. IMAGE is the blurred picture, or
    held-out:K, which is blurred first."""
    downsample: tuple[int, str] | None = None
    """FACTOR IMAGE. Enlarge an image whose pixels are means of FACTOR x FACTOR. IMAGE is the small picture, or one of
    the size of the data or held-out:K, which are made small first."""
    noise: float | None = None
    """Standard deviation of the noise of the measurement, for pixels in [-1, 1]; held-out images get this noise. None:
    0.1."""
    steer: Literal["auto", "particles", "tds", "fmtt", "tilt", "dps", "cm_solver", "universal", "fmrg", "best_of"] = (
        "auto"
    )
    """Method of steering. particles, tds, fmtt: weighted particles, whose law is right; tilt: the steered ODE; dps,
    cm_solver: for measurements; universal; fmrg: few jumps; best_of. auto: particles; for a partial map fmtt or
    best_of."""
    particles: int | None = None
    """Number of particles that compete, or of candidates for each sample of best_of. None: 64."""


@dataclass(frozen=True, kw_only=True)
class Sample(Steering, Common):
    """Draw samples from a trained run, free ones or towards a reward or a measurement.

    Example: flowmaps sample runs/board --steps 1 -n 1000 -o samples.png

    Example: flowmaps sample runs/digits --animate out.gif --steps 24

    Example: flowmaps sample runs/speech -o out.wav --seconds 5 --prompt in.wav --temperature 0.7

    Example: flowmaps sample runs/bible --infill "the ____ of the lord" --steps 50

    Example: flowmaps sample runs/digits --inpaint mask.png held-out:3 --steps 50 -o filled.png
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    steps: int | None = None
    """Number of steps from noise to data. None: 1, because a flow map needs one jump; 24 of a moving picture; 50 with
    steering (8 of fmrg, 1 of best_of)."""
    n: Annotated[int | None, arg(aliases=["-n"])] = None
    """Number of samples. None: 64; 1 of sound; of particles as many as there are; of a moving picture 1000 points, 36
    images, 15 series or 12 texts."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """A picture (.png, .jpg, .webp), where latents are decoded by the VAE of their pipeline, an array of the samples
    (.npy), a table of text (.csv, .tsv) of points and vectors, the texts of tokens (.txt), some of which are printed
    too, or sound (.wav, a numbered file for each of several samples). None: samples.png, or for samples that cannot be
    drawn samples.wav, samples.txt, samples.csv or samples.npy; with --animate no file."""
    animate: Path | None = None
    """A moving picture (.gif, or .mp4 if ffmpeg is installed) of the samples on their way from noise to data, with a
    frame for each step, or of the particles of steered samples."""
    snapshots: bool = False
    """Let the moving picture show the samples over training: from the same noise, by the weights of each checkpoint
    that the run keeps."""
    step: Literal["auto", "jump", "euler", "heun", "ancestral", "restart"] = "auto"
    """Kind of step: a jump of the flow map, an Euler or Heun step of its velocity, or a random step. auto: jumps,
    restarts for several steps of a map that knows t = 0 alone, Euler steps of a guided velocity."""
    label: int | None = None
    """Class to draw. None: the classes take turns. With steering: no class if the run knows the null class, else the
    reward weighs the classes."""
    prompt: tuple[str, ...] = ()
    """Prompt, for a run with text conditioning. Several prompts take turns. For a run on sound a sound file, which the
    samples continue; their files begin with it."""
    seconds: float | None = None
    """Duration of samples of sound, after the prompt. None: the one of the rows of the data."""
    temperature: float = 1.0
    """Variance of the noise of a model that makes a sequence frame by frame. Below 1 samples vary less."""
    guidance: float | None = None
    """Scale of guidance, for a guidance-conditioned run or a run that knows the null class. None: 1, or the scale that
    is baked in."""
    guidance_interval: str | None = None
    """Times between which guidance acts, such as 0.2:0.8. None: all."""
    seed: int = 0
    """Seed of the noise and of random steps."""
    device: str | None = None
    """Device to sample on, such as cpu or cuda:1. None: a GPU if there is one."""
    ema: bool = True
    """Use the averaged weights."""
