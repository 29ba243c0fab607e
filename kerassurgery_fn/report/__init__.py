"""Looking at models and at what is done to them: tables, pages, plots."""

from kerassurgery_fn.report.page import report_html
from kerassurgery_fn.report.plots import plot_widths
from kerassurgery_fn.report.showing import show, tables_of

__all__ = ["plot_widths", "report_html", "show", "tables_of"]
