"""`export`: a run as files for programs without flowmaps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from ..arguments import expect_path, truth
from ..export import adapter, to_diffusers, to_onnx, to_program
from ..export import push_to_hub as upload
from ..export.files import add_file
from ..export.folder import example, read_run
from ..export.hub import check_name
from ..flow_map import FlowMap
from .build import opened
from .checks import folder_of, refuse_tokens
from .trained_run import Say, silent


@dataclass(frozen=True)
class Exported:
    """The files of an export.

    Args:
        folder: The pipeline folder, or the folder of the adapter.
        onnx: The one-step sampler for onnxruntime. None: not written.
        program: The one-step sampler for torch.export. None: not written.
        address: The address on the hub. None: not uploaded.
    """

    folder: Path
    onnx: Path | None = None
    program: Path | None = None
    address: str | None = None


def export(
    run: str | PathLike[str] | FlowMap,
    folder: str | Path,
    *,
    base: str | Path | None = None,
    onnx: bool = False,
    program: bool = False,
    adapter_only: bool = False,
    ema: bool = True,
    push_to_hub: str | None = None,
    public: bool = False,
    say: Say = silent,
) -> Exported:
    """Write a run as a pipeline folder that plain diffusers loads and samples, as `flowmaps export` does.

    Args:
        run: Run folder, a flow map, or a file of `fm.save`.
        folder: Folder to write; an earlier export there is replaced, anything else is refused.
        base: Pipeline (a folder, or a name on the hub) with the other parts, which are copied. None: the run's, from
            its folder or from the local cache of the hub.
        onnx: Whether to also write one_step.onnx, noise to samples.
        program: Whether to also write one_step.pt2, noise to samples, for `torch.export.load`.
        adapter_only: Whether to write the adapter alone, of a run with LoRA.
        ema: Whether to use the averaged weights.
        push_to_hub: Name on the Hugging Face hub, OWNER/NAME, to upload the written files to after they have been
            loaded once.
        public: Whether the upload is public.
        say: Receives a line for each file.

    Returns:
        The files.

    Raises:
        FileNotFoundError: The run does not exist.
        ValueError: The run cannot be exported, the folder holds something else, or the options do not fit together.
        ImportError: A package for the export is missing.
    """
    if push_to_hub is not None:
        check_name(push_to_hub)
    if adapter_only and (onnx or program):
        raise ValueError("`adapter_only` writes no network, and `onnx` and `program` need one")
    truth(onnx=onnx, program=program, adapter_only=adapter_only, ema=ema, public=public)
    expect_path("folder", folder)
    run = opened(run)
    known = read_run(run if isinstance(run, FlowMap) else folder_of(run), base, ema=ema)
    if "data" in known.config:
        refuse_tokens(known.config, "an export is")
    written = Exported((adapter if adapter_only else to_diffusers)(known, Path(folder)))
    load = "flowmaps.integrations.peft.load_adapter(student, {!r})"
    whole = "DiffusionPipeline.from_pretrained({!r}, trust_remote_code=True)"
    say(f"{written.folder}: {(load if adapter_only else whole).format(str(written.folder))}")
    if onnx:
        written = replace(written, onnx=to_onnx(known.flow, written.folder / "one_step.onnx", *example(known)))
        add_file(written.folder, "one_step.onnx")
        say(f"{written.onnx}: noise to samples in one step")
    if program:
        written = replace(written, program=to_program(known.flow, written.folder / "one_step.pt2", *example(known)))
        add_file(written.folder, "one_step.pt2")
        say(f"{written.program}: noise to samples in one step")
    if push_to_hub is not None:
        written = replace(written, address=upload(written.folder, push_to_hub, private=not public))
        say(f"Uploaded: {written.address}")
    return written
