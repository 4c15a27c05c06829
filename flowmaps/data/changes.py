"""The names that `data.transforms` had in version 0.1."""

from .transforms import GuidanceScales as WithGuidance
from .transforms import LabelDropout as WithoutLabel
from .transforms import TextDropout as WithoutText
from .transforms import Transform as Change
from .transforms import Transformed as Changed
from .transforms import drawn_from_moments, from_moments, mirrored
from .transforms import transformed as changed
from .transforms import transforms_of as changes_of

__all__ = [
    "Change", "Changed", "WithGuidance", "WithoutLabel", "WithoutText", "changed", "changes_of", "drawn_from_moments",
    "from_moments", "mirrored",
]  # fmt: skip
