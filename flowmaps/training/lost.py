"""When another process of a run is gone."""

from __future__ import annotations

import torch.distributed as dist


def is_lost(error: Exception) -> bool:
    """Whether this is what is raised where another process has ended or does not answer: by gloo, which knows no error
    of its own, or by another backend.
    """
    return dist.is_available() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def lost(error: Exception, kept: str) -> ConnectionError:
    """The same in words that say what to do."""
    reason = str(error).partition("\n")[0]
    return ConnectionError(
        f"another process of this run has ended or does not answer{kept}. Look at its messages, then start all "
        f"processes again with --resume, resume=True ({reason})"
    )
