"""Evaluations of few samples, for tests of what an evaluation leaves and not of its numbers."""

from functools import partial

from flowmaps.evaluate.truth import map_error


def few_samples(patch):
    """Reduce the parts of an evaluation that have no argument for their size: the map's error and the density.

    Args:
        patch: The `MonkeyPatch` that sets the sizes.
    """
    patch.setattr("flowmaps.evaluate.run.map_error", partial(map_error, n=8))
    patch.setattr("flowmaps.evaluate.by_kind.DENSITY_SAMPLES", 256)
    patch.setattr("flowmaps.evaluate.by_kind.LEAST_DENSITY", 256)
