"""The part of a run's page about its last steered samples: their picture, their numbers, and the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .page import Picture, image

WEIGHTED = "Weighted particles have the law of the flow map times e^reward, in the limit of many particles."
ALONE = "This method draws each sample by itself, without weights that would correct its law."


@dataclass(frozen=True)
class SteeringSection:
    """The values of steering.html.j2.

    Attributes:
        target: The reward or measurement in words.
        law: The law of the samples, in a sentence.
        picture: The picture; None if there is none.
        facts: The numbers by name.
        command: The command line; "" if it is not known.
    """

    target: str
    law: str
    picture: Picture | None
    facts: Mapping[str, str]
    command: str


def section(record: Mapping[str, Any], png: bytes | None) -> SteeringSection:
    """Put the record of steered samples into words.

    Args:
        record: The content of steered.json.
        png: The bytes of the picture, a PNG file.

    Returns:
        The values of the template.
    """
    numbers, alt = record["numbers"], "Steered samples with their mean and their spread."
    by = "" if record["particles"] is None else f" with {record['particles']} particles"
    facts = {
        "samples": f"{record['samples']}, weights of step {record['step']}",
        "method": f"{record['method']}, {record['steps']} steps{by}",
        "mean reward": f"{numbers['reward']:.4g}",
        "spread of samples": f"{numbers['spread']:.3g}, the root mean square of their standard deviation",
    }
    said = {
        "ess": ("effective particles", lambda x: f"{x * (record['particles'] or 1):.3g} at the least"),
        "log_z": ("log Z", lambda x: f"{x:.4g}, the logarithm of the mean of e^reward over unsteered samples"),
        "kl": ("distance from unsteered samples", lambda x: f"{x:.3g} nats"),
        "residual": ("residual", lambda x: f"{x:.3g} of the noise; about 1 fits the measurement"),
        "psnr": ("PSNR of the mean", lambda x: f"{x:.3g} dB"),
    }
    facts |= {name: word(numbers[key]) for key, (name, word) in said.items() if key in numbers}
    picture = None if png is None else image(png, alt, kind="strip")
    law = WEIGHTED if "kl" in numbers else ALONE
    return SteeringSection(record["target"], law, picture, facts, record["command"] or "")
