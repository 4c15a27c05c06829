"""The autoencoder of a pipeline, found by the class of its components and not by their names."""

from __future__ import annotations

from .components import VAES, is_known
from .folder import NETWORKS, Loaded, Saved

USUAL = "vae"
"""The usual name of an autoencoder."""


def autoencoder(pipeline: Saved | Loaded) -> str | None:
    """Name the component that encodes images to latents, such as the `vqvae` of an LDMPipeline.

    Args:
        pipeline: The pipeline.

    Returns:
        The name; None for a pipeline whose network makes images.

    Raises:
        ValueError: If there are several, or none and a component that may be one.
    """
    if pipeline.has(USUAL):
        return USUAL
    entries = {name: pipeline.entry(name) for name in pipeline.names}
    found = [name for name, (_, class_name) in entries.items() if class_name in VAES]
    if len(found) > 1:
        raise ValueError(
            f"{pipeline.name} has several autoencoders, {', '.join(found)}, and flowmaps cannot tell which one makes "
            'the latents of its network: leave the others out by "NAME": [null, null] in its model_index.json'
        )
    unknown = [name for name, entry in entries.items() if name not in NETWORKS and not is_known(*entry)]
    if not found and unknown:
        library, class_name = entries[unknown[0]]
        raise ValueError(
            f"the {unknown[0]} of {pipeline.name} is a {class_name} of {library!r}, and flowmaps cannot tell whether "
            f"it encodes images; known autoencoders are {', '.join(VAES)}. If the network makes images without it, "
            f'leave it out by "{unknown[0]}": [null, null] in its model_index.json'
        )
    return found[0] if found else None
