"""`flowmaps export`."""

from __future__ import annotations

from ..export import adapter, push_to_hub, to_diffusers, to_onnx, to_program
from ..export.folder import example, read_run
from ..export.hub import check_name
from .options_export import Export
from .tables import say


def run_export(options: Export) -> None:
    """Write the folder, then what was asked for beside it. Raises what `export` raises."""
    if options.push_to_hub is not None:
        check_name(options.push_to_hub)
    if options.adapter_only and (options.onnx or options.program):
        raise ValueError("--adapter-only writes no network: --onnx and --program need the whole of it")
    run = read_run(options.run, options.base, ema=options.ema)
    folder = (adapter if options.adapter_only else to_diffusers)(run, options.folder)
    loader = "flowmaps.integrations.peft.load_adapter(student, {!r})"
    whole = "DiffusionPipeline.from_pretrained({!r}, trust_remote_code=True)"
    say(f"{folder}: {(loader if options.adapter_only else whole).format(str(folder))}")
    for wanted, write, name in (
        (options.onnx, to_onnx, "one_step.onnx"),
        (options.program, to_program, "one_step.pt2"),
    ):
        if wanted:
            say(f"{write(run.flow, folder / name, *example(run))}: noise to samples in one step")
    if options.push_to_hub is not None:
        say(f"Uploaded: {push_to_hub(folder, options.push_to_hub, private=not options.public)}")
