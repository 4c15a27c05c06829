"""Sequences of frames: sound as frames and back."""

from .mdct import MDCT
from .signal import Signal, Transform

__all__ = ["MDCT", "Signal", "Transform"]
