"""Harmless proofs of concept: code, pickles and links that would leave a trace if they were run, opened or followed."""

import json
import pickle
from pathlib import Path

SECRET = "TOKEN=of-somebody-else"


class Bomb:
    """A pickle that makes a file if it is ever loaded without a limit to its classes."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def code(trace, *classes):
    """A module that makes a file when it is imported, and its classes when they are called."""
    touch = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    parts = [f"class {name}:\n    from_pretrained = load_config = lambda *a, **k: {touch}\n" for name in classes]
    return "\n\n".join([f"{touch}\n", *parts])


def pickled(path, trace):
    path.write_bytes(pickle.dumps(Bomb(trace)))
    return path


def edited(path, **changes):
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def component(folder, name, library, class_name, trace):
    """Plant a component with code of its own, as a class of the module in its folder."""
    edited(folder / "model_index.json", **{name: [library, class_name]})
    (folder / name).mkdir(exist_ok=True)
    (folder / name / f"{library}.py").write_text(code(trace, class_name))
    (folder / name / "config.json").write_text(json.dumps({"_class_name": class_name}))
