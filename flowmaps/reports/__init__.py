"""Reports: self-contained HTML pages."""

from .run_report import report

__all__ = ["report"]
