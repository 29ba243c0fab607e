"""`help(kerassurgery_fn)` is an overview: short, and complete."""

import re
import subprocess
import sys
from pathlib import Path

import kerassurgery_fn
from kerassurgery_fn import errors

RENDER = "import pydoc, kerassurgery_fn; print(pydoc.render_doc(kerassurgery_fn, renderer=pydoc.plaintext))"


def test_help_fits_on_a_few_screens():
    command = [sys.executable, "-c", RENDER]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    lines = run.stdout.splitlines()
    assert len(lines) < 100
    assert max(map(len, kerassurgery_fn.__doc__.splitlines())) <= 120


def test_the_overview_lists_every_export():
    listed = set(re.findall(r"\w+", kerassurgery_fn.__doc__))
    assert {name for name in kerassurgery_fn.__all__ if not hasattr(errors, name)} <= listed
    assert {"SurgeryError", "InexactCut"} <= listed


def test_every_export_can_be_imported():
    assert {*kerassurgery_fn.__all__} == {*kerassurgery_fn._MODULES}
    for name in kerassurgery_fn.__all__:
        assert getattr(kerassurgery_fn, name).__name__ == name
