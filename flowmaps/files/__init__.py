"""Files: atomic writes, JSON documents, checksums, safetensors."""

from .documents import DEEPEST_JSON, LARGEST_JSON, json_checksum, parse_json, read_json, sealed, unsealed, write_json
from .tensors import (
    add_tensor,
    checksum,
    join,
    load_tensors,
    opened_tensors,
    save_tensors,
    split,
    tensor_shapes,
    tensors_checksum,
    weights_checksum,
)
from .writing import (
    FULL,
    LOCK,
    append_text,
    delete,
    flush,
    free_space,
    is_leftover,
    not_written,
    remove,
    remove_leftovers,
    replacing,
    temporary_name,
    write_text,
)

__all__ = [
    "DEEPEST_JSON", "FULL", "LARGEST_JSON", "LOCK", "add_tensor", "append_text", "checksum", "delete", "flush",
    "free_space", "is_leftover", "join", "json_checksum", "load_tensors", "not_written", "opened_tensors", "parse_json",
    "read_json", "remove", "remove_leftovers", "replacing", "save_tensors", "sealed", "split", "temporary_name",
    "tensor_shapes", "tensors_checksum", "unsealed", "weights_checksum", "write_json", "write_text",
]  # fmt: skip
