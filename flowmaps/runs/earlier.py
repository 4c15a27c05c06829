"""Run folders of version 0.1.0: their config.json describes the guidance in a sentence, converted to data."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

WORDS = re.compile(r"(?P<kind>.*), scale (?P<scale>told|[\d.e+-]+(?::[\d.e+-]+)?)(, between times (?P<times>.*))?")
"""The sentence; "told" stands for a guidance-conditioned network."""


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Convert the content of a config.json from format 1 to format 2: "guided" of the flow becomes "guidance".

    Args:
        config: The content in format 1.

    Returns:
        The content in format 2.
    """
    flow = dict(config["flow"])
    words = flow.pop("guided", None)
    return {**config, "format": 2, "flow": {**flow, "guidance": _guidance(words, config) if words else None}}


def _guidance(words: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a `GuidanceSpec` from the sentence about it and the configuration."""
    found = WORDS.fullmatch(words)
    arguments: dict[str, Any] = {"scale": None, "interval": [0.0, 1.0], "null": {}, "kind": words}
    if found:
        low, _, high = found["scale"].partition(":")
        objects = (one for one in config["data"].get("changes") or () if isinstance(one, dict))
        drawn = (one["arguments"] for one in objects if "WithGuidance" in one.get("type", ""))
        interval = next(([one["low"], one["high"]] for one in drawn), [0.0, math.inf])
        scale = interval if low == "told" else [float(low), float(high)] if high else float(low)
        times = [float(time) for time in found["times"].split(" and ")] if found["times"] else [0.0, 1.0]
        nulls = (null for null in _named("null", config["method"]) if isinstance(null, dict))
        null = {name: value for name, value in next(nulls, {}).items() if isinstance(value, int | float)}
        arguments = {"scale": scale, "interval": times, "null": null, "kind": found["kind"]}
    return {"type": "flow_map.GuidanceSpec", "arguments": arguments}


def _named(key: str, value: Any) -> Iterator[Any]:
    """Iterate over all entries with a key in nested dicts and lists."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _named(key, item)
