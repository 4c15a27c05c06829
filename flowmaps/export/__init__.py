"""What was trained, for those who do not have flowmaps: a pipeline folder of diffusers, the one-step sampler as ONNX or
as a program of `torch.export`, the Hugging Face hub.

    to_diffusers(run, folder)         DiffusionPipeline.from_pretrained(folder, trust_remote_code=True) loads it
    adapter(run, folder)              the LoRA of a run alone, in diffusers' format
    to_onnx(flow, file, noise)        noise -> samples in onnxruntime
    to_program(flow, file, noise)     noise -> samples by torch.export.load
    push_to_hub(folder, "me/name")    upload, after the folder has been loaded once
"""

from .folder import adapter, to_diffusers
from .hub import push_to_hub
from .program import to_onnx, to_program

__all__ = ["adapter", "push_to_hub", "to_diffusers", "to_onnx", "to_program"]
