"""Data sets.

Toy distributions in the plane, digits, glyphs, patches of photographs, time series, folders of images, arrays, texts,
sound, points on manifolds, Hugging Face data sets, Python objects, couplings made by a teacher, and none at all.
"""

from .columns import Columns
from .coordinates import Angles, Coordinates, LatitudeLongitude, Quaternions
from .core import Batch, Data
from .coupling import reflow
from .data_free import no_data
from .filtering import filtered
from .load import load
from .manifold_points import on_manifold, rotations, sphere, torus
from .objects import as_data
from .observed import WithMeasurement, WithState, with_measurement, with_state
from .sound import audio
from .standardise import by_channel
from .text_files import text
from .token_rows import tokens
from .vocabularies import Bytes, Characters, Tokenizer, Vocabulary, letters_only, tokens_of

nothing = no_data
"""The name of `no_data` in version 0.1."""

__all__ = [
    "Angles", "Batch", "Bytes", "Characters", "Columns", "Coordinates", "Data", "LatitudeLongitude", "Quaternions",
    "Tokenizer", "Vocabulary", "WithMeasurement", "WithState", "as_data", "audio", "by_channel", "filtered",
    "letters_only", "load", "no_data", "nothing", "on_manifold", "reflow", "rotations", "sphere", "text", "tokens",
    "tokens_of", "torus", "with_measurement", "with_state",
]  # fmt: skip
