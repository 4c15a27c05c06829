"""`flowmaps sample`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor

from ..experiments.checks import folder_of
from ..experiments.sample_files import lines_of, usual_file
from ..experiments.sampling import sample
from ..runs.folder import read_config
from .arguments import command_of, keywords
from .options_sample import Sample, Steering
from .own_method import reward_named
from .tables import say

TARGETS = ("reward", "infill", "inpaint", "deblur", "downsample")
"""Options that say where to steer."""
PRINTED = 16
"""Most texts that are printed."""


def run_sample(options: Sample) -> None:
    """Draw samples, steered ones if there is a reward or a measurement, and write them."""
    given, config = keywords(options), read_config(folder_of(options.run))
    if options.out is None and options.animate is None:
        given["out"] = usual_file(config)
    steering = {field.name: given.pop(field.name) for field in fields(Steering)}
    named = [name for name, value in steering.items() if value not in (None, "auto")]
    if not any(name in TARGETS for name in named):
        if named:
            raise ValueError(
                f"`{named[0]}` is for steered samples: say where to steer by `reward`, `infill`, `inpaint`, `deblur` "
                "or `downsample`"
            )
        if given["n"] is None and config["data"].get("signal") is not None:
            given["n"] = 1
        free = {name: given.pop(name) for name in ("steps", "n") if given[name] is None}
        x = sample(**{name: value for name, value in given.items() if name not in free}, say=say)
        _print_texts(x, options)
        return
    from ..experiments.steered_sampling import steer

    _print_texts(steer(**_steered(given, steering), command=command_of("sample", options), say=say).x, options)


def _print_texts(x: Tensor, options: Sample) -> None:
    """Print some samples of a run on tokens as texts."""
    config = read_config(folder_of(options.run))
    if config["data"]["kind"] == "tokens":
        print("\n".join(lines_of(x[:PRINTED], config)))


def _steered(given: dict[str, Any], steering: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `steer`."""
    if given.pop("step") != "auto":
        raise ValueError("`step` is for samples without steering: `steer` chooses the steps of steered ones")
    if given.pop("temperature") != 1 or given.pop("seconds") is not None:
        raise ValueError("`temperature` and `seconds` are for samples without steering")
    if given.pop("snapshots"):
        raise ValueError(
            "`snapshots` is for samples without steering: a moving picture of steered ones shows particles"
        )
    prompts = given.pop("prompt")
    if len(prompts) > 1:
        raise ValueError(f"steered samples have one `prompt`, because their particles compete, got {len(prompts)}")
    found = {**given, **steering, "method": steering["steer"], "prompt": prompts[0] if prompts else None}
    del found["steer"]
    if found["reward"] is not None:
        found["reward"] = reward_named(found["reward"])
    return found
