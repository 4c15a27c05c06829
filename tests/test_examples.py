"""What the README and the examples show must run."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_ten_lines_of_the_readme_run():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert "steps=2000" in code
    names = {}
    exec(code.replace("steps=2000", "steps=3"), names)
    assert names["one_jump"].shape == names["ode"].shape == names["noise"].shape


def test_the_demo_runs_and_runs_again(tmp_path, monkeypatch, capsys):
    """The second time everything is there: nothing is trained or measured again."""
    out = tmp_path / "demo"
    monkeypatch.setattr(sys, "argv", ["demo.py", "--seconds", "0.5", "--out", str(out)])
    for _ in range(2):
        runpy.run_path(str(ROOT / "examples/demo.py"), run_name="__main__")
        assert "jump" in capsys.readouterr().out
    assert (out / "evaluation.json").exists() and (out / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("name", ["checkerboard", "cost", "digits", "digits_parts"])
def test_benchmarks_can_be_asked_what_they_do(name, monkeypatch):
    module = runpy.run_path(str(ROOT / f"benchmarks/{name}.py"), run_name="benchmark")
    assert callable(module["main"]) and f"python -m benchmarks.{name}" in module["__doc__"]
