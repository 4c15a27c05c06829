"""Training on several processes: the rows of each process, sharded weights, and gathering them."""

from .processes import Processes
from .shards import unshard

__all__ = ["Processes", "unshard"]
