"""`steer`: samples of a trained run that a reward or a measurement steers, with the numbers that judge them."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import sampling
from .. import steps as steppers
from ..arguments import at_least, check_seed, device_of, expect_path, finite, given, shown, truth
from ..arguments.memory import check_room
from ..data.core import DRAW, generator
from ..guidance import GuidedVelocity
from ..runs.folder import read_config
from ..runs.loading import load_with_step
from ..steering.reward import Rewards
from . import films
from .checks import folder_of
from .films import Film
from .forecast import in_words
from .guided_run import TimeInterval, null_class
from .infilling import held_of
from .measurements import Measurement, measurement_of
from .rewards_from_text import reward_of
from .run_data import given_data, run_data
from .sample_files import check_file, check_suffix
from .sampling import guided, labels_of
from .steered_files import keep, write_steered
from .steered_result import Steered, lines, summary
from .steering_methods import METHODS, SteeringMethod, SteeringTask, check_name, method_of
from .text_conditioning import text_conditions
from .trained_run import Say, silent
from .trained_run import device as default_device

USUAL = 64
"""Usual number of particles, and of samples."""
LONG = 20.0
"""Seconds from which on the time that is left is said."""
ODE_STEPS = 50
"""Usual steps of the best of some samples that follow a velocity."""


def steer(
    run: str | PathLike[str],
    *,
    reward: str | Rewards | None = None,
    infill: str | None = None,
    inpaint: tuple[Any, Any] | None = None,
    deblur: tuple[float, Any] | None = None,
    downsample: tuple[int, Any] | None = None,
    classifier: str | PathLike[str] | None = None,
    noise: float | None = None,
    method: str = "auto",
    steps: int | None = None,
    particles: int | None = None,
    n: int | None = None,
    out: str | Path | None = None,
    animate: str | Path | None = None,
    label: int | None = None,
    prompt: str | None = None,
    guidance: float | None = None,
    guidance_interval: TimeInterval | None = None,
    data: Any = None,
    seed: int = 0,
    ema: bool = True,
    device: str | None = None,
    command: str | None = None,
    say: Say = silent,
) -> Steered:
    """Draw samples from a trained run that a reward or a measurement steers, as `flowmaps sample --reward` does.

    One of `reward`, `infill`, `inpaint`, `deblur` and `downsample` is given. An image is a file, a tensor (C, H, W) in
    [-1, 1], or "held-out:K", the K-th held-out image of the data, which is measured with noise. The last result is kept
    in the run folder, as steered.json and steered.png, and shown by `report`.

    Args:
        run: The run folder.
        reward: "label:7" or "label:NAME", the log-probability of a class; or a function of data (B, ...) to (B,).
        infill: Text in which every "_" is a free token, as are the places after its end, for runs on texts of
            characters or bytes. The given tokens stand in their places in all samples.
        inpaint: Mask and image; a mask is a picture that is white, or a tensor (H, W) that is 1, where the image is
            filled in.
        deblur: Standard deviation of the blur in pixels, and the blurred image.
        downsample: Factor, and the small image, or one of the size of the data, which is made small.
        classifier: File of a classifier for label:CLASS. None: the one of the run, trained now if it is missing.
        noise: Standard deviation of the noise of the measurement, for values in [-1, 1]. None: 0.1.
        method: "particles", "tds", "fmtt", "tilt", "dps", "cm_solver", "universal", "fmrg" or "best_of".
            "auto": particles; for a partial map fmtt or best_of.
        steps: Number of steps. None: 50; 8 of fmrg, 1 jump of best_of.
        particles: Number of particles that compete, or of candidates for each sample of best_of. None: 64.
        n: Number of samples. None: as many as particles, or else 64.
        out: File for the samples, as for `sample`; a picture of images shows measurement, samples, mean and spread.
        animate: File for a moving picture of the particles on their way, before each resampling, and of the
            samples at the end (.gif, or .mp4 by ffmpeg). None: no file.
        label: Class of all samples. None: no class if the run knows the null class; else the particles have all
            classes, and the reward weighs them.
        prompt: Prompt, for a run with text conditioning.
        guidance: Scale of guidance, inside of the steering.
        guidance_interval: Times between which guidance acts. None: all.
        data: Data instead of the data of the run; needed if these were made from an object.
        seed: Seed of all random numbers.
        ema: Whether to use the averaged weights.
        device: The device to sample on. None: a GPU if there is one.
        command: The command line, for the record.
        say: Receives lines about the result.

    Returns:
        The samples, with mean, spread and the numbers that judge them.

    Raises:
        FileNotFoundError: The run, a picture or a classifier does not exist.
        ImportError: A package or program that writes the file is missing, such as ffmpeg.
        TypeError: An argument is of another type.
        ValueError: An argument does not fit the run or the others, or a combination would be wrong.
    """
    wanted = given(reward=reward, infill=infill, inpaint=inpaint, deblur=deblur, downsample=downsample)
    _check(wanted, classifier, noise, out, prompt)
    films.check_request(animate, False)
    check_name(method)
    at_least(1, **given(steps=steps, n=n))
    at_least(2, **given(particles=particles))
    check_seed(seed)
    finite(**given(guidance=guidance))
    truth(ema=ema)
    where = device_of(default_device() if device is None else device)
    run = folder_of(run)
    config = read_config(run)
    source = functools.cache(lambda: run_data(run) if data is None else given_data(run, data))
    loaded = load_with_step(run, ema=ema)
    flow = loaded.flow.to(where).requires_grad_(False)
    measurement: Measurement | None = None
    held = None if infill is None else held_of(infill, config)
    if held is not None:
        target: Rewards = held
    elif reward is None:
        measurement = measurement_of(run, config, source, wanted, noise, seed, say)
        target = measurement.likelihood
    else:
        own = None if data is None else source()
        target = reward_of(reward, run, classifier=classifier, data=own, device=where, say=say)
    velocity, condition = guided(flow, config, 1, guidance, guidance_interval)
    name, way = method_of(method, velocity, target)
    count, rivals = _sizes(name, way, particles, n)
    if out is not None:
        check_file(Path(out), count, config)
    film = None if animate is None else _film(Path(animate), run, config, flow, name, way, rivals, steps or way.steps)
    rows = rivals if way.weighs and rivals else count
    condition |= text_conditions(flow, config, [] if prompt is None else [prompt])
    condition = {key: value.expand(rows, *value.shape[1:]) for key, value in condition.items()}  # networks take rows
    labels, joint = _labels(run, config, rows, label, way, guidance is not None, seed)
    condition |= {key: value.to(where) for key, value in sampling.by_name(labels).items()}
    many = (rivals, count) if name == "best_of" else (rows,)
    task = SteeringTask(
        velocity, _noise(flow, many, config["data"]["shape"], seed, say), _steps(steps, name, way, velocity), target,
        condition, joint, seed, _forecast(say), None if film is None else film.particles,
    )  # fmt: skip
    x, mean, std, numbers = summary(way.draw(task), target, measurement, count, seed)
    x = x if held is None else held.completed(x)
    words = f"reward {reward if isinstance(reward, str) else getattr(reward, '__name__', type(reward).__name__)}"
    words = f"infilling {infill!r}" if infill is not None else words if measurement is None else measurement.what
    result = Steered(x, mean, std, numbers, measurement, words, name, task.steps, rivals, loaded.step)
    if out is not None:
        write_steered(Path(out), result, config)
    if film is not None:
        film.end(x)
        film.write()
        say(f"{len(film.states)} frames of {rivals} particles of {config['data']['name']}: {film.path}")
    keep(run, result, config, command, say)
    about = (
        f"{count} samples of {config['data']['name']}, weights of step {loaded.step}, {words}, {task.steps} x {name}"
    )
    for line in (about + ("" if out is None else f": {out}"), *lines(result)):
        say(line)
    return result


def _check(wanted: Mapping[str, Any], classifier: Any, noise: Any, out: Any, prompt: Any) -> None:
    """Check which arguments are given, before any work is done."""
    if len(wanted) != 1:
        got = f"got {' and '.join(f'`{name}`' for name in wanted)}" if wanted else "got none"
        raise ValueError(f"steering needs one of `reward`, `infill`, `inpaint`, `deblur` and `downsample`, {got}")
    if classifier is not None and "reward" not in wanted:
        raise ValueError("`classifier` is for the reward of a class: it needs `reward`, such as label:7")
    if noise is not None and wanted.keys() & {"reward", "infill"}:
        raise ValueError("`noise` is the noise of a measurement, and a reward has none: scale the reward instead")
    if prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"steered samples have one `prompt`, a text, got {shown(prompt)}")
    if out is not None:
        expect_path("out", out)
        check_suffix(Path(out))


def _film(
    path: Path, run: Path, config: Mapping[str, Any], flow: Any, name: str, way: SteeringMethod, rivals: int | None,
    steps: int,
) -> Film:  # fmt: skip
    """The moving picture of particles, after a check that there are some."""
    if not way.weighs or rivals is None:
        weighing = [key for key, one in METHODS.items() if one.weighs]
        raise ValueError(
            f"a moving picture of steered samples shows particles, and {name} has none: take the method "
            f"{', '.join(weighing[:-1])} or {weighing[-1]}"
        )
    films.check_animation(run, config, rivals, steps)
    return Film(path, flow, config, f"{rivals} particles, {steps} steps")


def _sizes(name: str, way: SteeringMethod, particles: int | None, n: int | None) -> tuple[int, int | None]:
    """The number of samples, and the number of particles or candidates; None for samples by themselves."""
    if not way.weighs and name != "best_of":
        if particles is not None:
            raise ValueError(
                f"{name} draws each sample by itself, without `particles`: give the number of samples, `n`"
            )
        return USUAL if n is None else n, None
    rivals = USUAL if particles is None else particles
    if name == "best_of":
        return USUAL if n is None else n, rivals
    count = rivals if n is None else n
    if count > rivals:
        raise ValueError(f"{count} samples need at least as many `particles`, and there are {rivals}")
    return count, rivals


def _labels(
    run: Path, config: Mapping[str, Any], rows: int, label: int | None, way: SteeringMethod, is_guided: bool, seed: int
) -> tuple[Tensor | None, bool]:
    """The labels of rows, and whether particles carry them."""
    if label is not None or not config["training"]["labels"]:
        return labels_of(run, config, rows, label), False
    null, classes = null_class(config), config["data"]["classes"]
    if null is not None and not is_guided:
        return torch.full((rows,), null), False
    advice = (
        f"give the class, `label`{'' if is_guided else ', or train with `label_dropout` to sample without a class'}"
    )
    if not way.weighs:
        raise ValueError(
            f"this run draws a given class, and a reward weighs the classes by particles alone: {advice}, or take "
            "particles"
        )
    if rows < classes:
        raise ValueError(f"{rows} particles are fewer than the {classes} classes that the reward weighs: {advice}")
    start = torch.rand((), generator=generator(seed, 1, DRAW), dtype=torch.float64)
    return ((torch.arange(rows) + start) * classes / rows).long().clamp(max=classes - 1), True


def _noise(flow: Any, many: tuple[Any, ...], shape: list[int], seed: int, say: Say) -> Tensor:
    """The noise to start from, (*many, *shape)."""
    total = math.prod(many)
    check_room(total * math.prod(shape) * flow.like.element_size(), f"{total:,} samples take", "draw fewer", say)
    return sampling.noise(flow, total, shape=shape, seed=seed).reshape(*many, *shape)


def _steps(steps: int | None, name: str, way: SteeringMethod, flow: Any) -> int:
    """The number of steps."""
    if steps is not None:
        return steps
    if name == "best_of" and (isinstance(flow, GuidedVelocity) or steppers.default(flow, 1) is steppers.euler):
        return ODE_STEPS
    return way.steps


def _forecast(say: Say) -> Callable[[int, int], None]:
    """A function that says after the first steps how long the others take, if that is long."""
    begin = time.perf_counter()

    def after(done: int, steps: int) -> None:
        left = (time.perf_counter() - begin) / done * (steps - done)
        if done == 2 and left > LONG:
            say(f"The {steps - done} steps that are left take about {in_words(left)}")

    return after
