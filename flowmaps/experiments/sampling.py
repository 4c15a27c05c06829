"""`sample`: samples of a trained run, and the file with them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import sampling
from .. import steps as steppers
from ..arguments import at_least, check_seed, device_of, did_you_mean, finite, given, shown, truth
from ..arguments.memory import check_room, rows_at_a_time
from ..flow_map import FlowMap
from ..guidance import GuidedVelocity
from ..networks.with_backbone import has_backbone
from ..runs.folder import read_config
from ..runs.loading import load_with_step
from ..sequences import guided_contexts
from ..sequences.signal import lengths
from ..steps import Step
from . import films
from .checks import folder_of
from .films import Film, check_request
from .guide import time_interval
from .guided_run import TimeInterval, at_scale, is_conditioned, trained_scales
from .sample_files import check_file, check_suffix, write
from .sound import sound_request, tempered
from .text_conditioning import in_turn, text_conditions
from .trained_run import Say, silent
from .trained_run import device as default_device

MOST_ROWS = 2**13
"""Largest number of samples that are computed at a time."""
STEP_NAMES = ("jump", "euler", "heun", "ancestral", "restart")
"""Names of steps, beside "auto"."""


def sample(
    run: str | PathLike[str],
    *,
    steps: int | None = None,
    n: int | None = None,
    out: str | Path | None = None,
    animate: str | Path | None = None,
    snapshots: bool = False,
    step: str | Step = "auto",
    label: int | None = None,
    prompt: str | Sequence[str] = (),
    seconds: float | None = None,
    temperature: float = 1.0,
    guidance: float | None = None,
    guidance_interval: TimeInterval | None = None,
    seed: int = 0,
    ema: bool = True,
    device: str | None = None,
    say: Say = silent,
) -> Tensor:
    """Draw samples from a trained run, as `flowmaps sample` does.

    The network computes a bounded number of samples at a time.

    Args:
        run: The run folder.
        steps: Steps from noise to data. None: 1; 24 for a moving picture of them.
        n: Number of samples. None: 64; for a moving picture 1000 points, 36 images, 15 series or 12 texts.
        out: File for the samples: a picture (.png, .jpg, .webp), where latents are decoded by the VAE of their
            pipeline, an array (.npy), a table of text (.csv, .tsv) of points and vectors, the texts of tokens (.txt),
            or sound (.wav, a numbered file for each of several samples). None: no file.
        animate: File for a moving picture of the samples (.gif, or .mp4 by ffmpeg): images, points, texts or series at
            the time of each step, from noise to data. None: no file.
        snapshots: Whether the moving picture shows the samples over training instead, from the same noise by the
            weights of each checkpoint that the run keeps.
        step: "jump", "euler", "heun", "ancestral", "restart" or a function of `flowmaps.steps`. "auto": jumps, restarts
            for several steps of a map that knows t = 0 alone, Euler steps of a guided velocity.
        label: Class to draw. None: the classes take turns.
        prompt: Prompt, or several that take turns, for a run with text conditioning. For a run on sound a sound file,
            which the samples continue; their files begin with it.
        seconds: Duration of samples of sound, after the prompt. None: the one of the rows of the data.
        temperature: Variance of the noise of a model that makes a sequence frame by frame. Below 1 samples vary less;
            it is exact for Gaussian laws of the next frame alone.
        guidance: Scale of guidance, for a guidance-conditioned run or a run that knows the null class. None: 1, or the
            scale that is baked in.
        guidance_interval: Times between which guidance acts, such as (0.2, 0.8). None: all.
        seed: Seed of the noise and of random steps.
        ema: Whether to use the averaged weights.
        device: The device to sample on, such as "cpu" or "cuda:1". None: a GPU if there is one.
        say: Receives a line when the file is written, and before more than 1 GB of memory is taken.

    Returns:
        The samples (n, ...) on the CPU, in the units of the data; latents stay latents, and rows of tokens are
        probabilities (n, L, K), which the vocabulary of the data decodes.

    Raises:
        FileNotFoundError: The run or the sound file of the prompt does not exist.
        ImportError: A package or program that writes the file is missing, such as ffmpeg.
        ValueError: File type, number, label, prompt, duration, temperature, guidance or step do not fit the run, there
            is no such device, or the samples do not fit into the memory.
    """
    _check(out, n, seed, guidance)
    check_request(animate, snapshots)
    where = device_of(default_device() if device is None else device)
    truth(ema=ema)
    run = folder_of(run)
    config = read_config(run)
    if steps is None:
        steps = 1 if animate is None or snapshots else films.STEPS
    if n is None:
        n = 64 if animate is None else films.usual_number(config)
    times = sampling.time_grid(steps)
    if out is not None:
        check_file(Path(out), n, config)
    if animate is not None:
        films.check_animation(run, config, n, None if snapshots else steps)
    loaded = load_with_step(run, ema=ema)
    flow = loaded.flow.to(where)
    if animate is not None:
        films.refuse_sequences(flow)
    prompts = [prompt] if isinstance(prompt, str) else prompt
    sound = sound_request(run, config, flow, prompts, seconds, temperature, say)
    shape = config["data"]["shape"] if sound is None else sound.shape
    size = n * math.prod(shape) * flow.like.element_size() * (1 if animate is None else len(times))
    check_room(size, f"{n:,} samples take", "draw fewer samples, `n`", say)
    labels = labels_of(run, config, n, label)
    source, condition = guided(flow, config, n, guidance, guidance_interval)
    name, function = step_of(step, source, steps)
    condition |= {name: value.to(where) for name, value in sampling.by_name(labels).items()}
    condition |= {} if sound is None else sound.condition(flow, n)
    texts = {} if sound is not None else text_conditions(flow, config, prompts)

    def bound(rows: slice) -> Any:
        here = {key: value[rows] for key, value in condition.items()} | in_turn(texts, range(n)[rows])
        return source.given(**here) if here else source

    film = None if animate is None else Film(Path(animate), flow, config, films.in_words(steps, name))
    watch = None if film is None or snapshots else film.at_time

    def draw() -> Tensor:
        noise = tempered(sampling.noise(flow, n, shape=shape, seed=seed), temperature)
        if watch is not None:
            watch(times[0], noise)
        return sampling.sample_(bound, noise, times, function, seed, rows_at_a_time(math.prod(shape), MOST_ROWS), watch)

    x = film.over_training(run, draw, ema) if film is not None and snapshots else draw()
    counts = None if sound is None else lengths(x)
    x = sampling.restored(source, x, times[-1]).cpu()
    if out is not None:
        write(Path(out), x, config, labels if labels is None else labels.cpu(), sound, counts)
        say(f"{n} samples of {config['data']['name']}, weights of step {loaded.step}, {steps} x {name}: {out}")
    if film is not None:
        film.write()
        say(f"{len(film.states)} frames of {n} samples of {config['data']['name']}, {steps} x {name}: {film.path}")
    return x


def _check(out: Any, n: Any, seed: Any, guidance: Any) -> None:
    """Check the file type and the numbers before any work is done."""
    if out is not None:
        check_suffix(folder_of(out, "out"))
    at_least(1, **given(n=n))
    check_seed(seed)
    finite(**given(guidance=guidance))


def guided(
    flow: FlowMap, config: Mapping[str, Any], n: int, scale: float | None, interval: TimeInterval | None
) -> tuple[Any, dict[str, Tensor]]:
    """Guide a flow map at a scale.

    Args:
        flow: The flow map of a run.
        config: The content of its config.json.
        n: Number of rows.
        scale: The scale. None: no guidance.
        interval: The times between which guidance acts. None: all.

    Returns:
        The flow map or its guided velocity, and the conditions (n,) beside the label.

    Raises:
        ValueError: An interval is given without a scale, or the run cannot be guided like this.
    """
    if scale is None:
        if interval is not None:
            raise ValueError("`guidance_interval` applies to guidance: it needs `guidance`")
        return flow, {}
    if has_backbone(flow.network):
        if interval is not None:
            raise ValueError("the guidance of a head on a backbone mixes contexts, so `guidance_interval` has no times")
        return with_guided_contexts(flow, scale), {}
    low, high = trained_scales(flow)
    if is_conditioned(flow.network) and not low <= scale <= high:
        warnings.warn(
            f"this run was trained with scales from {low:g} to {high:g}, and {scale:g} is outside", stacklevel=3
        )
    source, condition = at_scale(flow, config, scale, time_interval(interval))
    return source, {name: value.to(flow.like.device).expand(n) for name, value in condition.items()}


def with_guided_contexts(flow: FlowMap, scale: float) -> FlowMap:
    """The flow map of a run on a backbone with guided contexts.

    Raises:
        ValueError: The run has no labels, or did not learn the null class.
    """
    trained = flow.trained
    if trained is None or trained.classes is None or "label" not in trained.dropped:
        raise ValueError(
            "guidance compares with the null class, which this run has not learned: train it with class labels and "
            "`label_dropout=0.1`"
        )
    return guided_contexts(flow, scale, {"label": trained.classes})


def step_of(step: str | Step, flow: Any, number: int) -> tuple[str, Step]:
    """Choose the step of the sampler.

    Args:
        step: A name or function of `flowmaps.steps`, or "auto".
        flow: The flow map or guided velocity to sample.
        number: Number of steps.

    Returns:
        The name and the function.

    Raises:
        ValueError: There is no such step.
    """
    if callable(step):
        return getattr(step, "__name__", "step"), step
    if step == "auto":
        return step_of(
            steppers.euler if isinstance(flow, GuidedVelocity) else steppers.default(flow, number), flow, number
        )
    if not isinstance(step, str):
        raise TypeError(f"a step is a name or a function of flowmaps.steps, got {shown(step)}")
    if step not in STEP_NAMES:
        raise ValueError(
            f"unknown step {step!r}{did_you_mean(step, STEP_NAMES)}; known are auto, {', '.join(STEP_NAMES)}"
        )
    return step, getattr(steppers, step)


def labels_of(run: Path, config: Mapping[str, Any], n: int, label: int | None) -> Tensor | None:
    """The label of each sample.

    Args:
        run: The run folder, for messages.
        config: The content of its config.json.
        n: Number of samples.
        label: The class of all. None: the classes take turns.

    Returns:
        Labels (n,); None for a network that takes none.

    Raises:
        ValueError: There is no such class.
    """
    classes = config["data"]["classes"] if config["training"]["labels"] else None
    if classes is None:
        if label is not None:
            raise ValueError(f"the model in {run} was trained without class labels, so `label` cannot be given")
        return None
    if label is not None:
        at_least(0, label=label)
    if label is None:
        return torch.arange(n) % classes
    if not 0 <= label < classes:
        raise ValueError(f"`label` must be at least 0 and below the number of classes, {classes}, got {label}")
    return torch.full((n,), label)
