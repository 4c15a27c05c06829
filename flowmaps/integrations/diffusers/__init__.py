"""Hugging Face diffusers: a pipeline's network as a teacher, its latents and its text conditioning.

    teacher(folder)     the network and its scheduler as a `Pretrained`: velocity(x, t) on one of our paths
    Latents(folder)     images to latents and back, by the pipeline's VAE
    Texts(folder)       prompts to conditions, by the pipeline's text encoders
    checkpoint(flow)    gradient checkpointing in a student

`folder` is the folder of a pipeline, a name on the Hugging Face hub, or a loaded pipeline.
"""

from ...arguments import install

try:
    import diffusers as _diffusers  # noqa: F401
except ImportError:
    raise ImportError(f"flowmaps.integrations.diffusers needs diffusers: {install('diffusers')}") from None

from .latents import Latents
from .networks import DiffusersNetwork
from .teaching import teacher
from .text import Texts
from .time_layers import checkpoint

__all__ = ["DiffusersNetwork", "Latents", "Texts", "checkpoint", "teacher"]
