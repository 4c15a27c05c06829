"""Where gradients flow in the losses of the landscape, from its rows."""

from __future__ import annotations

from typing import Any

from flowmaps.methods import LANDSCAPE
from flowmaps.methods.row import PARTS


def part() -> dict[str, Any]:
    """The loss of each method, with the parts that carry gradient."""
    fields = ("name", "rule", "learning", "equation", "gradient", "gradient_of", "reference")
    return {"parts": PARTS, "methods": [{field: getattr(row, field) for field in fields} for row in LANDSCAPE]}
