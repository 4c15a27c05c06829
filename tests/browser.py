"""Pages in the system's Chromium, driven by Playwright.

A folder of tests gets the fixture `page` with `from tests.browser import chromium, page  # noqa: F401` in its conftest.
"""

import shutil

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def chromium():
    """One browser for a file of tests."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """page(width, height, dark, **options): a new page without a network; the test fails if a page reports an error.

    Further options are the ones of Playwright's `Browser.new_context`, such as `java_script_enabled=False`.
    """
    contexts, errors = [], []

    def note(said):
        if said.type in ("error", "warning"):
            errors.append(f"{said.text} ({said.location['url']})")

    def made(width=1280, height=800, dark=False, **options):
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": height}
        contexts.append(chromium.new_context(viewport=size, color_scheme=scheme, offline=True, **options))
        found = contexts[-1].new_page()
        found.set_default_timeout(5000)
        found.on("console", note)
        found.on("pageerror", lambda error: errors.append(str(error)))
        return found

    yield made
    for context in contexts:
        context.close()
    assert not errors, errors
