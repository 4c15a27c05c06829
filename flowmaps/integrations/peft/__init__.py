"""Training by LoRA (Hu et al. 2021, arXiv 2106.09685), with the layers of Hugging Face peft.

lora(flow, rank)            a flow map of which low-rank additions are trained, and what is new in a student
base_of(flow)               the teacher in it: the frozen weights alone, of which there is one copy in memory
save_adapter, load_adapter  what was trained, in the format of diffusers, and onto another model of the same kind
set_weight(flow, weight)    how much of it acts: 0 is the base, 1 is as it was trained
merged(flow)                an ordinary flow map with the additions put into its weights
"""

try:
    import peft as _peft  # noqa: F401
except ImportError:
    raise ImportError("flowmaps.integrations.peft needs peft: pip install flowmaps[diffusers]") from None

from .adapted import Adapted, adapted_of, lora, set_weight
from .base import base_of, merged
from .files import load_adapter, save_adapter

__all__ = ["Adapted", "adapted_of", "base_of", "load_adapter", "lora", "merged", "save_adapter", "set_weight"]
