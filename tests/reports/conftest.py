"""Tests of pages have a browser."""

from tests.browser import chromium, page  # noqa: F401
