"""The page that `--report` writes: what was compiled, proven and measured, for a person to read and to keep."""

from pbcompile.report.page import Page

__all__ = ["Page"]
