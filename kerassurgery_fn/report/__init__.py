"""Reports on models and edits: tables, explanations, HTML pages, plots."""

from kerassurgery_fn.report.console_tables import show, tables_of
from kerassurgery_fn.report.html_page import report_html
from kerassurgery_fn.report.sensitivity_plot import plot_sensitivity
from kerassurgery_fn.report.width_plot import plot_widths

__all__ = ["plot_sensitivity", "plot_widths", "report_html", "show", "tables_of"]
