"""Training by LoRA (Hu et al. 2021, arXiv 2106.09685), with the layers of Hugging Face peft.

- `lora(flow, rank)`: a flow map with trained low-rank additions; a student's new embeddings are trained too
- `base_of(flow)`: its teacher, which shares the frozen weights in memory
- `save_adapter`, `load_adapter`: write the trained weights in diffusers' format, load them onto a similar model
- `set_weight(flow, weight)`: scale of the adapter: 0 is the base, 1 is the trained model
- `merged(flow)`: an ordinary flow map with the additions merged into its weights
"""

from ...arguments import install

try:
    import peft as _peft  # noqa: F401
except ImportError:
    raise ImportError(f"flowmaps.integrations.peft needs peft: {install('diffusers')}") from None

from .adapted import Adapted, adapted_of, lora, set_weight
from .base import base_of, merged
from .files import load_adapter, save_adapter

__all__ = ["Adapted", "adapted_of", "base_of", "load_adapter", "lora", "merged", "save_adapter", "set_weight"]
