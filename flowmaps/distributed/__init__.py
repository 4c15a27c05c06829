"""Several processes: who they are, weights that are spread over them, and weights gathered again."""

from .unshard import whole

__all__ = ["whole"]
