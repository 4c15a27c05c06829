"""Several processes: which rows of a batch each one takes, weights sharded over them, and weights gathered again."""

from .processes import Processes
from .shards import unshard

__all__ = ["Processes", "unshard"]
