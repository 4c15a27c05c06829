"""Export trained flow maps for use without flowmaps.

To a pipeline folder of diffusers, to ONNX or a `torch.export` program of the one-step sampler, to the Hugging Face hub:

    to_diffusers(run, folder)         DiffusionPipeline.from_pretrained(folder, trust_remote_code=True) loads it
    adapter(run, folder)              the LoRA of a run alone, in diffusers' format
    to_onnx(flow, file, noise)        noise -> samples in onnxruntime
    to_program(flow, file, noise)     noise -> samples by torch.export.load
    push_to_hub(folder, "me/name")    load an exported folder once, then upload it
"""

from .folder import adapter, to_diffusers
from .hub import push_to_hub
from .program import to_onnx, to_program

__all__ = ["adapter", "push_to_hub", "to_diffusers", "to_onnx", "to_program"]
