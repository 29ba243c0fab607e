"""The architecture: a room imports only rooms above it, and Keras is imported only behind doors.

`python -m pytest tests/test_architecture.py -s` prints the rooms with a line each, from the ground up.
"""

import ast
import doctest
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import kerassurgery_fn
from helpers.rooms import PACKAGE, ROOMS, ROOT, map_of_the_rooms

FRONT_DESK = "__init__"

# The names that Keras-surgeon has for its modules: each is one import from the room `keras_surgeon`.
ALIASES = ("operations", "surgeon", "identify")
ORDER = (*ROOMS, *ALIASES, "__main__", FRONT_DESK)
MAY_IMPORT_KERAS = {"keras_io", "measure", "testing", "keras_surgeon", "cli"}
# Modules of these rooms that import Keras only inside functions, so that rooms without Keras may import them.
LIGHT = {"keras_io", "keras_io.layer_conversion", "keras_io.scopes", "measure"}
HEAVY = {"keras", "tensorflow"}


# --- the checker: pure functions on source text


def room_of(file: str) -> str:
    """The room that a file of the package is in; `file` is relative to the package.

    >>> room_of("errors.py"), room_of("rules/dense.py"), room_of("__init__.py")
    ('errors', 'rules', '__init__')
    """
    return Path(file).parts[0].removesuffix(".py")


def module_of(file: str) -> str:
    """The dotted name under which a file of the package is imported.

    >>> module_of("rules/dense.py"), module_of("rules/__init__.py")
    ('kerassurgery_fn.rules.dense', 'kerassurgery_fn.rules')
    """
    parts = (PACKAGE, *Path(file).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


def is_type_checking(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return True
    return False


def with_typing(node: ast.AST, typing: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node at any depth, and whether it stands in the body of an `if TYPE_CHECKING:`."""
    yield node, typing
    for field, value in ast.iter_fields(node):
        inner = typing or (field == "body" and is_type_checking(node))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from with_typing(child, inner)


def package_around(file: str, level: int) -> str:
    """What `level` leading dots mean in a file.

    >>> package_around("rules/dense.py", 1), package_around("rules/dense.py", 2), package_around("rules/__init__.py", 1)
    ('kerassurgery_fn.rules', 'kerassurgery_fn', 'kerassurgery_fn.rules')
    """
    return ".".join((PACKAGE, *Path(file).parent.parts)[: len(Path(file).parts) + 1 - level])


def targets(node: ast.AST, file: str) -> list[str]:
    """The dotted names that one node imports, absolute."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            base = [package_around(file, level)] if level else []
            return [".".join([*base, *([module] if module else []), alias.name]) for alias in names]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [f"{PACKAGE}{name}" if name.startswith(".") else name]
    return []


def target_room(dotted: str) -> str | None:
    """The room that a dotted name is in, None for a name outside the package.

    >>> target_room("kerassurgery_fn.graph.calls"), target_room("kerassurgery_fn.capture"), target_room("numpy")
    ('graph', '__init__', None)
    """
    match dotted.split("."):
        case [top, "__version__"] if top == PACKAGE:
            return None
        case [top, room, *_] if top == PACKAGE and room in ORDER:
            return room
        case [top, *_] if top == PACKAGE:
            return FRONT_DESK
    return None


def fault(file: str, dotted: str, typing: bool) -> str | None:
    """What is wrong with a file importing a dotted name, in words, None if nothing is."""
    here, there = room_of(file), target_room(dotted)
    if dotted.split(".")[0] in HEAVY and not typing and here not in MAY_IMPORT_KERAS:
        return f"imports {dotted}, which only {', '.join(sorted(MAY_IMPORT_KERAS))} may import"
    if there is None or there == here or ORDER.index(there) < ORDER.index(here):
        return None
    if there == FRONT_DESK:
        return f"imports {dotted}, which is in no room: import it from the room that defines it"
    return f"imports {dotted}, but the room {there!r} is not above {here!r}"


def faults(source: str, file: str) -> list[str]:
    """Everything wrong with the imports of a file of the package, given as text; `file` is relative to the package.

    >>> faults("from ..analysis import channel_flow", "graph/calls.py")
    ["graph/calls.py:1 imports kerassurgery_fn.analysis.channel_flow, but the room 'analysis' is not above 'graph'"]
    """
    if room_of(file) not in ORDER:
        return [f"{file} is in no room: give it a line in ROOMS, at its height"]
    checked = (
        (node, fault(file, dotted, typing))
        for node, typing in with_typing(ast.parse(source))
        for dotted in targets(node, file)
    )
    return [f"{file}:{node.lineno} {words}" for node, words in checked if words]


# --- the rooms as they are

FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
MODULES = [file for file in FILES if "__" not in file]
WITHOUT_KERAS = [
    module_of(file)
    for file in FILES
    if room_of(file) not in MAY_IMPORT_KERAS or module_of(file).removeprefix(f"{PACKAGE}.") in LIGHT
]


def test_the_map_of_the_rooms():
    rooms = map_of_the_rooms()
    print("\n" + "\n".join(rooms))  # noqa: T201 (the map is what the test is for)
    assert len(ROOMS) <= 18
    assert all(len(line.split(maxsplit=1)) == 2 for line in rooms)


@pytest.mark.parametrize("file", FILES)
def test_imports_point_upwards(file):
    assert faults((ROOT / file).read_text(encoding="utf-8"), file) == []


def test_no_two_modules_have_one_name():
    stems = Counter(Path(file).stem for file in MODULES)
    stems.update({Path(file).parts[-2] for file in FILES if file.endswith("/__init__.py")})
    assert [stem for stem, n in stems.items() if n > 1] == []


IMPORT_ONE_BY_ONE = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    loaded = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
    if loaded:
        sys.exit(f"importing {name} loads {', '.join(loaded)}")
"""


def test_nothing_heavy_is_loaded_without_the_doors():
    modules = sorted(WITHOUT_KERAS, key=lambda name: (name != PACKAGE, name))  # the package alone comes first
    command = [sys.executable, "-c", IMPORT_ONE_BY_ONE, ",".join(sorted(HEAVY)), *modules]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert (run.returncode, run.stderr) == (0, "")


EXPORT_ALL = """
import importlib, sys, types
for name in sys.argv[3:]:
    importlib.import_module(name)
package = sys.modules[sys.argv[1]]
for name in sys.argv[2].split(","):
    if isinstance(getattr(package, name), types.ModuleType):
        sys.exit(f"{name} is a module")
"""


def test_an_imported_module_hides_no_export():
    light = [name for name, home in kerassurgery_fn._MODULES.items() if home.split(".")[0] not in MAY_IMPORT_KERAS]
    command = [sys.executable, "-c", EXPORT_ALL, PACKAGE, ",".join(light), *WITHOUT_KERAS]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert (run.returncode, run.stderr) == (0, "")


def test_no_room_has_the_name_of_an_export():
    """Importing the room would put the module in the place of the export."""
    assert not set(kerassurgery_fn.__all__) & {*ROOMS, *ALIASES}


# --- sabotage: the checker finds what is wrong, and only that

WRONG = {
    "a room below": ("graph/calls.py", "from ..analysis import channel_flow"),
    "a room below, by its full name": ("graph/calls.py", "import kerassurgery_fn.analysis"),
    "a room below, as a name of the package": ("graph/calls.py", "from .. import errors, analysis"),
    "a room below, in a function in a class": ("edits/plan.py", "class A:\n def f(self):\n  from ..documents import a"),
    "a room below, for its types": ("rules/dense.py", "if TYPE_CHECKING:\n from ..analysis import Flow"),
    "a room below, by a string": ("errors.py", "importlib.import_module('.keras_io', __package__)"),
    "the front desk": ("cli.py", "from kerassurgery_fn import capture"),
    "the front desk as a whole": ("edits/__init__.py", "import kerassurgery_fn"),
    "keras": ("graph/calls.py", "import keras"),
    "keras at the front desk": ("__init__.py", "def __getattr__(name):\n import keras"),
    "a part of keras": ("rules/dense.py", "from keras.src.layers import Dense"),
    "tensorflow in a function": ("pruning/basic.py", "def f():\n try:\n  import tensorflow as tf\n except E:\n  pass"),
    "keras where types are not checked": ("graph/calls.py", "if TYPE_CHECKING:\n pass\nelse:\n import keras"),
    "keras by a string": ("graph/calls.py", "keras = __import__('keras')"),
    "a file in no room": ("helpers.py", ""),
    "a folder that is no room": ("utils/axes.py", ""),
}

RIGHT = {
    "rooms above": ("analysis/a.py", "from ..rules import RULES\nfrom .. import errors\nimport kerassurgery_fn.graph"),
    "its own room": ("rules/__init__.py", "from . import dense\nfrom .conv import RULES"),
    "its own room, from inside": ("rules/dense.py", "from .conv import RULES\nfrom ..channels import tie"),
    "other packages": ("channels/axes.py", "import numpy as np\nfrom toolz import pipe\nimport graph, keras_like"),
    "the version": ("archive/zip.py", "from kerassurgery_fn import __version__"),
    "keras at a door": ("keras_io/capturing.py", "import keras\nfrom tensorflow import function"),
    "keras for its types": ("report/html_page.py", "if typing.TYPE_CHECKING:\n import keras"),
    "everything at the front desk": ("__init__.py", "def f(name):\n from . import cli\n from .keras_io import a"),
}  # fmt: skip


def test_the_examples_of_the_checker():
    assert doctest.testmod(sys.modules[__name__]).failed == 0


@pytest.mark.parametrize("file, source", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_import_is_reported(file, source):
    assert len(faults(source, file)) == 1


@pytest.mark.parametrize("file, source", RIGHT.values(), ids=RIGHT.keys())
def test_a_right_import_is_not(file, source):
    assert faults(source, file) == []


def test_a_fault_names_the_line_and_the_rooms():
    source = dedent(
        """
        import numpy as np

        def channel_maps():
            from kerassurgery_fn.analysis import channel_flow
        """
    )
    assert faults(source, "graph/calls.py") == [
        "graph/calls.py:5 imports kerassurgery_fn.analysis.channel_flow, but the room 'analysis' is not above 'graph'"
    ]
