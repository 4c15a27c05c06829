"""The documentation builds without warnings, its names exist, and its code runs."""

import ast
import functools
import importlib
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flowmaps as fm
from flowmaps.cli import parse
from flowmaps.methods import BEYOND, DISCRETE, DISTRIBUTIONAL, LANDSCAPE, MANIFOLDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
INTERNAL = {
    "__main__",
    "arguments",
    "serialise",
    "files",
    "runs",
    "distributed",
    "figures",
}


def read(page):
    return (DOCS / page).read_text()


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), flags=re.M | re.S)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(https?:|//)", text)
        styles = re.findall(r"<link\b[^>]*rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*href=[\"']?(https?:|//)", text)
        assert not loaded + styles + re.findall(r"(?:@import|url\()\s*[\"']?(https?:|//)", text), page


@pytest.mark.slow
def test_the_search_works_in_a_page_that_is_opened_as_a_file(site):
    if (browser := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        pytest.skip("chromium is not installed")
    page = f"{(site / 'index.html').as_uri()}?q=shortcut"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run([browser, *options, page], capture_output=True, text=True, timeout=120).stdout
    assert re.search(r"[1-9]\d* matching documents", shown) and "landscape.html#shortcut" in shown


@pytest.mark.parametrize(
    ("formula", "latex"),
    [
        ("x_0 - eps", r"x_{0} \, - \, \varepsilon "),
        ("dV/ds + grad_x V . u", r"\frac{d V }{d s}\, + \, \nabla_x \, V \, \cdot \, u "),
        ("E sg[V*(x_s, s)]^2", r"\mathbb{E}\, \, \mathrm{sg} [ V ^{*}( x_{s} ,\, s ) ] ^2"),
        ("sigma_m^(-1) q^k", r"\sigma _{m} ^{- 1} \, q ^k "),
        ("x_m a step of the teacher's ODE", r"x_{m} \, \ \text{a step of the teacher's ODE}"),
        ("a u + (1 - a) v", r"a \, u \, + \, ( 1\, - \, a ) \, v "),
        ("<V, w>, m < s", r"\langle V ,\, w \rangle ,\, m \, < \, s "),
    ],
)
def test_formulas_are_typeset_as_they_are_written(formula, latex):
    sys.path.insert(0, str(DOCS))
    typeset = importlib.import_module("typeset")
    assert re.sub(r"\s", "", typeset.to_latex(formula)) == re.sub(r"\s", "", latex)


@pytest.mark.slow
def test_every_formula_of_a_method_is_typeset(site):
    landscape, methods = ((site / page).read_text() for page in ("landscape.html", "api/methods.html"))
    assert landscape.count('<div class="formula"') == len((*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL))
    assert methods.count('<div class="formula"') > 30 and "<mfrac>" in methods


@pytest.mark.slow
def test_signatures_link_to_torch_and_to_their_source(site):
    page = (site / "api/sampling.html").read_text()
    assert re.search(r'<a [^>]*href="https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor">Tensor</a>', page)
    assert "Source code in <code>flowmaps/sampling/composition.py</code>" in page
    assert not [path for path in site.rglob("*.html") if re.search(r" at 0x[0-9a-f]{6}", path.read_text())]


@pytest.mark.slow
def test_api_pages_have_tables_of_arguments_with_types_and_defaults(site):
    page = (site / "api/sampling.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert re.search(r"Name Type Description Default flow Any ", text)
    assert re.search(
        r" steps int \| None Number of equal steps\. None: 1\. None times Sequence ?\[ ?float ?\] \| None ", text
    )
    assert re.search(r"Raises: Type Description ValueError ", text)


@pytest.mark.slow
def test_the_landscape_page_has_every_method(site):
    page = (site / "landscape.html").read_text()
    for row in (*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL):
        assert f'id="{row.name}"' in page
        assert re.search(r"@\w+\{", row.bibtex)
    assert page.count("<summary>BibTeX") == len((*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL))


def test_exactly_the_costs_that_differ_from_the_post_are_explained():
    explained = {
        name.lower().replace("-", "_"): (float(ours), int(published))
        for names, ours, published in re.findall(r"^(.+): (\S+), in the post (\d+)$", read("landscape.md"), flags=re.M)
        for name in names.split(" and ")
    }
    differ = {
        row.name: (row.cost, row.published_cost) for row in LANDSCAPE if row.published_cost not in (None, row.cost)
    }
    assert explained == differ


@pytest.mark.slow
def test_every_method_is_in_the_advice_and_in_the_walk_through_the_post(site):
    for page in ("choosing.html", "the_post.html"):
        words = set(re.findall(r"\w+", (site / page).read_text()))
        missing = {row.name for row in LANDSCAPE} - words
        assert not missing, page


def test_every_public_module_has_its_page():
    shown = {name for page in PAGES for name in re.findall(r"^::: flowmaps\.(\w+)", page.read_text(), flags=re.M)}
    modules = {module.name for module in pkgutil.iter_modules(fm.__path__)} - INTERNAL - {"cli"}
    assert modules == shown


def test_names_on_the_pages_exist():
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(r"\bflowmaps(?:\.\w+)+", text):
            if not name.endswith((".py", ".git")):
                pkgutil.resolve_name(name)
        for name in re.findall(r"\bfm((?:\.\w+)+)", text):
            functools.reduce(getattr, name[1:].split("."), fm)
        for path in re.findall(r"`((?:flowmaps|tests|docs|examples|benchmarks)/[\w/.]*)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_commands_of_the_pages_are_commands():
    lines = [line for page in PAGES for line in page.read_text().splitlines() if line.startswith("flowmaps ")]
    assert len(lines) > 10
    for line in lines:
        parse(shlex.split(line)[1:])


def test_the_messages_on_the_page_of_errors_are_messages_of_the_package():
    """Each part between `...` is in one of the texts of the source, where values are written in."""
    texts = []
    for path in (ROOT / "flowmaps").rglob("*.py"):
        docstrings = set()
        for node in ast.walk(ast.parse(path.read_text())):  # a node comes before the nodes in it
            if isinstance(node, ast.Expr):
                docstrings.add(id(node.value))
            elif id(node) in docstrings:
                continue
            elif isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    messages = re.findall(r"^\| `(.+?)` \| ", read("errors.md"), flags=re.M)
    assert len(messages) > 30
    for message in messages:
        for part in filter(None, (part.strip() for part in message.split("..."))):
            assert any(part in text for text in texts), (message, part)


@pytest.mark.slow
def test_the_first_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("index.md", "python"):
        exec(block.replace("steps=2000", "steps=3"), names)
    assert names["one_jump"].shape == names["ode"].shape == names["noise"].shape
    assert all(weight.grad is not None for weight in names["flow"].parameters())


def test_the_page_about_guidance_runs():
    names = {}
    for block in blocks("guidance.md", "python"):
        exec(block, names)
    assert names["samples"].shape == names["one_jump"].shape == names["noise"].shape
    assert names["state"].flow.guidance.is_conditioned


def test_the_page_about_students_runs():
    names = {}
    for block in blocks("students.md", "python"):
        exec(block, names)
    assert names["conditioned"].network.told == ("guidance",) and names["flow"].network.tame is not None


def test_the_section_about_videos_runs():
    names = {}
    exec(blocks("distill.md", "python")[0], names)
    s, t = (level.flatten() for level in names["levels"][1:3])
    assert names["x"].shape == (2, 1, 4, 1, 1) and s.tolist() == [0.5, 1, 1, 1] and t.tolist() == [0, 0.5, 1, 1]


def test_the_page_about_post_training_runs():
    names = {}
    for block in blocks("post_training.md", "python"):
        exec(block, names)
    assert names["one_jump"].shape == names["draws"].shape == names["x0"].shape == (16, 1)
    assert names["kept"].size == names["weighted"].size == 160


@pytest.mark.slow
def test_the_example_method_learns():
    method, _, *rest = blocks("extending.md", "python")
    names = {"__all__": []}
    for block in (method, *rest):
        exec(block, names)
    assert names["__all__"] == ["steady"] and names["steady"].row.learning == names["SELF"]
    assert names["after"] < names["before"] / 2


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the library with the example method appended to its file, and its formula to the tests."""
    folder = tmp_path_factory.mktemp("extended")
    for part in ("flowmaps", "tests", "docs", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    method, formula, *_ = blocks("extending.md", "python")
    for file, block in (("flowmaps/methods/lagrangian.py", method), ("tests/methods/formulas.py", formula)):
        with (folder / file).open("a") as stream:
            stream.write(f"\n\n{block}")
    return folder


EVERYWHERE = """
import sys

import flowmaps as fm
from flowmaps.cli import main

names = [row.name for row in fm.methods.LANDSCAPE]
assert names.index("steady") == names.index("tvm") + 1 and len(names) == len(set(names))
assert "steady" in fm.methods.__all__ and fm.methods.steady().name == "steady"
assert main(["methods"]) == main(["explain", "steady"]) == 0
training = "train eight_gaussians --method steady --method-args ema=0.9 --steps 2 --batch-size 8 --out run"
assert main(training.split()) == 0

sys.path.insert(0, "docs")
import hooks

for text in (
    hooks.landscape(), hooks.one_by_one(), hooks.gradients(), hooks.costs("from_scratch"), hooks.methods("lagrangian")
):
    assert "steady" in text
"""


def run(folder, *arguments):
    """Run Python in a folder, on the packages in it."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_method_appears_everywhere(extended):
    printed = run(extended, "-c", EVERYWHERE)
    assert "steady: lagrangian, self-distillation" in printed and "Nobody 2026, this page" in printed


@pytest.mark.slow
def test_the_example_method_passes_the_tests_of_all_methods(extended):
    printed = run(extended, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", "steady", "tests/methods")
    for test in (
        "test_reference.py::test_value_and_gradient_are_those_of_the_formula[steady]",
        "test_gradients.py::test_which_term_receives_a_gradient[steady]",
        "test_truth.py::test_residuals_vanish_at_the_exact_map[steady-linear]",
        "test_mixture.py::test_training_from_scratch_stands_still_at_the_truth[steady]",
        "test_landscape.py::test_costs_are_what_is_counted[steady]",
    ):
        assert f"{test} PASSED" in printed
