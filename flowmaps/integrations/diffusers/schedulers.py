"""Schedulers of diffusers: the reading of networks trained with them, and their sampling times.

All of them have one of three schedules: DDPM's steps with their alphas_cumprod, the linear path of flow matching, or
EDM's noise levels. A shift, Karras' sigmas and the spacing of the steps are not part of the schedule: they choose the
sampling times, see `grid`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import diffusers
import torch

from ... import path as paths
from ...files import read_json
from ...path import Form, Path, linear
from ...pretrained import Affine, Reading
from ..edm import LogLevel, Preconditioned, negative_output, output
from .component_files import SCHEDULER, check_entries, config_of, folder_of
from .errors import explained

PREDICTIONS = {
    "epsilon": paths.noise,
    "sample": paths.data,
    "original_sample": paths.data,
    "v_prediction": paths.v_prediction,
}
STEPS = (
    "DDPM DDPMParallel DDIM DDIMParallel CogVideoXDDIM CogVideoXDPM PNDM LMSDiscrete EulerDiscrete "
    "EulerAncestralDiscrete HeunDiscrete KDPM2Discrete KDPM2AncestralDiscrete DPMSolverMultistep DPMSolverSinglestep "
    "UniPCMultistep DEISMultistep SASolver LCM TCD"
).split()
FLOW = "FlowMatchEulerDiscrete FlowMatchHeunDiscrete FlowMatchLCM".split()
EDM = "EDMEuler EDMDPMSolverMultistep".split()
INSTEAD = {
    "FlowMapEulerDiscrete": "its model is a flow map already: load the run that it was exported from",
    "CMStochasticIterative": "its model is a consistency model, which has no velocity",
    "SCM": "its model is a consistency model, which has no velocity",
}

Scheduler = Any


def reading(scheduler: Scheduler | Mapping[str, Any] | str | File, path: Path = linear) -> Reading:
    """Make the reading of a network that was trained with a scheduler.

    The network's time is the step k, also between steps, 1000 t for flow matching and log(sigma)/4 for EDM.

    Args:
        scheduler: A scheduler, its config as a dict, the folder that holds scheduler_config.json, a pipeline's folder,
            or its name on the hub.
        path: The path on which the network is read.

    Returns:
        The reading.

    Raises:
        ValueError: For a scheduler that is not in `STEPS`, `FLOW` or `EDM`, an unknown prediction, and a prediction
            that its schedule does not allow (the noise, if the last step leaves no data).
    """
    scheduler = made(scheduler)
    name, config = _name(scheduler), scheduler.config
    count = config.num_train_timesteps
    if name in EDM or _continuous(scheduler):
        return _edm(config, path)
    if _flows(scheduler):
        if config.get("invert_sigmas"):
            return Reading(to_data, linear, path, time=Affine(-count, count))
        return Reading(_predicts(scheduler), linear, path, time=Affine(count))
    if config.get("rescale_betas_zero_snr") and config.prediction_type == "epsilon":
        raise ValueError(
            f"this {type(scheduler).__name__} predicts the noise (prediction_type=epsilon), which does not determine "
            "the data at its last step, pure noise (rescale_betas_zero_snr): set rescale_betas_zero_snr to false, or "
            "prediction_type to the prediction of the network"
        )
    kept = scheduler.alphas_cumprod.double().tolist()
    if config.get("rescale_betas_zero_snr") and kept[-1] >= kept[-2]:
        kept[-1] = 0.0  # some write 2^-24 for the zero there, which may exceed the step before
    steps = paths.Discrete(tuple(kept))
    return Reading(_predicts(scheduler), steps, path, known=(1 / count, 1.0), time=Affine(count, -1))


def grid(scheduler: Scheduler, steps: int, path: Path = linear, **options: Any) -> list[float]:
    """Compute the times on `path` of the states of a scheduler, from noise to data.

    On the linear path Euler's method on them is DDIM, or the scheduler's own Euler method. The first state is
    `noise_scale` times the noise. The last time is above 0 if the scheduler ends at its first step
    (set_alpha_to_one=False, final_sigmas_type=sigma_min).

    Args:
        scheduler: As for `reading`.
        steps: Number of steps.
        path: The path.
        **options: Arguments of its set_timesteps, such as mu= for a shift by resolution.

    Returns:
        The times.
    """
    scheduler = _at(scheduler, steps, options)
    return list(dict.fromkeys(_time(path, *level) for level in _levels(scheduler)))


def noise_scale(scheduler: Scheduler, steps: int, path: Path = linear, **options: Any) -> float:
    """Compute the factor that makes standard normal noise the scheduler's first state, at the first time of `grid`.

    Args:
        scheduler: As for `reading`.
        steps: Number of steps.
        path: The path.
        **options: Arguments of its set_timesteps.

    Returns:
        The factor; 1 for flow matching.
    """
    scheduler = _at(scheduler, steps, options)
    a, b = _levels(scheduler)[0]
    size = float(scheduler.init_noise_sigma) if hasattr(scheduler, "init_noise_sigma") else 1.0
    if size == 1 and not _flows(scheduler):  # states of unit variance, whereas the others keep the data's scale
        a, b = a / (a**2 + b**2) ** 0.5, b / (a**2 + b**2) ** 0.5
    t = torch.tensor(_time(path, a, b), dtype=torch.float64)
    return size * float(path.alpha(t) + path.sigma(t)) / (a + b)


def to_data(path: Path, u: torch.Tensor) -> Form:
    """Return the coefficients of x_0 - eps, the velocity of a network with time from noise to data."""
    return torch.ones_like(u), -torch.ones_like(u)


def made(scheduler: Scheduler | Mapping[str, Any] | str | File) -> Scheduler:
    """Make a scheduler from its config, a folder or a name on the hub; a scheduler is returned unchanged.

    Raises:
        ValueError: For an unknown scheduler.
    """
    if isinstance(scheduler, str | File):
        scheduler = _config(str(scheduler))
    if isinstance(scheduler, Mapping):
        name = scheduler.get("_class_name")
        if not isinstance(name, str):
            raise ValueError(f"the config of a scheduler must name a class of diffusers as _class_name, got {name!r}")
        _check_known(name)
        check_entries(scheduler, "the config of a scheduler")
        try:
            scheduler = getattr(diffusers, name).from_config(dict(scheduler))
        except Exception as error:  # the config comes from a file: whatever is wrong, it is the file
            raise ValueError(f"{name} cannot be made of its config: {type(error).__name__}: {error}") from error
    _check_known(type(scheduler).__name__)
    return scheduler


def _check_known(name: str) -> None:
    """Raise ValueError for the name of a scheduler that cannot be read."""
    if name.removesuffix("Scheduler") not in (*STEPS, *FLOW, *EDM):
        known = ", ".join(f"{each}Scheduler" for each in (*STEPS, *FLOW, *EDM))
        instead = INSTEAD.get(name.removesuffix("Scheduler"), f"known are {known}")
        raise ValueError(f"{name} cannot be read: {instead}")


def _config(folder: str) -> dict[str, Any]:
    for file in (File(folder, "scheduler_config.json"), File(folder, "scheduler", "scheduler_config.json")):
        if file.is_file():
            return read_json(file)
    with explained(folder, "scheduler"):
        return config_of(folder_of(folder, "scheduler", SCHEDULER, online=True), SCHEDULER)


def _name(scheduler: Scheduler) -> str:
    return type(scheduler).__name__.removesuffix("Scheduler")


def _flows(scheduler: Scheduler) -> bool:
    """Tell whether it is a scheduler of flow matching, by its class or its config."""
    return _name(scheduler) in FLOW or bool(scheduler.config.get("use_flow_sigmas"))


def _continuous(scheduler: Scheduler) -> bool:
    """Tell whether its network takes log(sigma)/4 instead of steps."""
    config = scheduler.config
    return config.get("timestep_type") == "continuous" and config.prediction_type == "v_prediction"


def _predicts(scheduler: Scheduler) -> Any:
    """Return the linear form that its network predicts; v needs states of unit variance, unlike flow matching."""
    kind, flows = scheduler.config.get("prediction_type", "flow_prediction"), _flows(scheduler)
    known = {"flow_prediction": paths.velocity} | PREDICTIONS if flows else PREDICTIONS
    if kind not in known or (flows and kind == "v_prediction"):
        where = "on the path of flow matching" if flows else "on the steps of DDPM"
        raise ValueError(f"{type(scheduler).__name__} with prediction_type={kind!r} {where} cannot be read")
    return known[kind]


def _edm(config: Any, path: Path) -> Reading:
    if "sigma_data" not in config and not (config.get("sigma_min") and config.get("sigma_max")):
        raise ValueError("a scheduler with timestep_type=continuous needs sigma_min and sigma_max")
    schedule = Preconditioned(float(config.sigma_max), float(config.get("sigma_data", 1.0)))
    kinds = {"epsilon": output, "v_prediction": negative_output}
    if config.prediction_type not in kinds:
        raise ValueError(f"an EDM scheduler with prediction_type={config.prediction_type!r} cannot be read")
    known = (config.sigma_min / config.sigma_max, 1.0)
    return Reading(kinds[config.prediction_type], schedule, path, known, LogLevel(schedule.sigma_max))  # type: ignore[arg-type]


def _at(scheduler: Scheduler, steps: int, options: Mapping[str, Any]) -> Scheduler:
    """Copy a scheduler and set its number of steps."""
    scheduler = copy.deepcopy(made(scheduler))
    scheduler.set_timesteps(steps, **options)
    return scheduler


def _levels(scheduler: Scheduler) -> list[tuple[float, float]]:
    """Return (a, b) of its states a x_0 + b eps, up to a factor; repeated states are listed once."""
    if hasattr(scheduler, "sigmas"):
        sigmas = list(dict.fromkeys(scheduler.sigmas.double().tolist()))
        if not _flows(scheduler):
            return [(1.0, sigma) for sigma in sigmas]
        sigmas = [1 - sigma for sigma in sigmas] if scheduler.config.get("invert_sigmas") else sigmas
        return [(1 - sigma, sigma) for sigma in sigmas]
    steps = list(dict.fromkeys(int(k) for k in scheduler.timesteps))
    kept = [float(scheduler.alphas_cumprod[k]) for k in steps] + [_last(scheduler, steps[-1])]
    return [(share**0.5, (1 - share) ** 0.5) for share in kept]


def _last(scheduler: Scheduler, step: int) -> float:
    """Return alphas_cumprod of its last state."""
    before = step - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    if before >= 0 and _name(scheduler) not in ("LCM", "TCD"):
        return float(scheduler.alphas_cumprod[before])
    return float(getattr(scheduler, "final_alpha_cumprod", 1.0))


def _time(path: Path, a: float, b: float) -> float:
    alpha, sigma = (torch.tensor(part, dtype=torch.float64) for part in (a, b))
    return min(1.0, float(path.time_of(alpha, sigma)))
