"""The house: rooms import only rooms above them, and only behind the doors is Keras to be found."""

import ast
import doctest
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import kerassurgery_fn

PACKAGE = "kerassurgery_fn"
ROOT = Path(__file__).parent.parent / PACKAGE
FRONT_DESK = "__init__"

# From the ground up: a room may import the rooms before it. The front desk, which hands out all of them, comes last.
ROOMS = (
    "errors",
    "warning",
    "tables",
    "frozen",
    "snapshot",
    "arguments",
    "graph",
    "selecting",
    "wiring",
    "scopes",
    "given",
    "channels",
    "rules",
    "facts",
    "flow",
    "coupling",
    "costs",
    "edits",
    "plan",
    "preconditions",
    "codec",
    "algebra",
    "differences",
    "schema",
    "explaining",
    "scores",
    "pruning",
    "hidden",
    "live",
    "probe",
    "probing",
    "archive",
    "report",
    "operations",
    "surgeon",
    "identify",
    "cli",
    FRONT_DESK,
)
DOORS = {"live", "probe", "probing"}
MAY_IMPORT_HEAVY = DOORS | {"scopes", "given", "operations", "surgeon", "identify", "cli"}  # at a door, or behind it
HEAVY = {"keras", "tensorflow"}


# --- the checker: pure functions on source text


def room_of(file: str) -> str:
    """The room that a file of the package is in; `file` is relative to the package.

    >>> room_of("graph.py"), room_of("rules/dense.py"), room_of("__init__.py")
    ('graph', 'rules', '__init__')
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
    """The room that a dotted name is in, None for what is not of the package.

    >>> target_room("kerassurgery_fn.graph.calls"), target_room("kerassurgery_fn.capture"), target_room("numpy")
    ('graph', '__init__', None)
    """
    match dotted.split("."):
        case [top, "__version__"] if top == PACKAGE:
            return None
        case [top, room, *_] if top == PACKAGE and room in ROOMS:
            return room
        case [top, *_] if top == PACKAGE:
            return FRONT_DESK
    return None


def fault(file: str, dotted: str, typing: bool) -> str | None:
    """What is wrong with a file importing a dotted name, in words, None if nothing is."""
    here, there = room_of(file), target_room(dotted)
    if dotted.split(".")[0] in HEAVY and not typing and here not in MAY_IMPORT_HEAVY:
        return f"imports {dotted}, which only {', '.join(sorted(MAY_IMPORT_HEAVY))} may"
    if there is None or there == here or ROOMS.index(there) < ROOMS.index(here):
        return None
    if there == FRONT_DESK:
        return f"imports {dotted}, which is in no room: import it from the room that defines it"
    return f"imports {dotted}, but the room {there!r} is not above {here!r}"


def faults(source: str, file: str) -> list[str]:
    """Everything wrong with the imports of a file of the package, given as text; `file` is relative to the package.

    >>> faults("from .flow import channel_maps", "graph.py")
    ["graph.py:1 imports kerassurgery_fn.flow.channel_maps, but the room 'flow' is not above 'graph'"]
    """
    if room_of(file) not in ROOMS:
        return [f"{file} is in no room: give it a line in ROOMS, at its height"]
    found = (
        (node, fault(file, dotted, typing))
        for node, typing in with_typing(ast.parse(source))
        for dotted in targets(node, file)
    )
    return [f"{file}:{node.lineno} {words}" for node, words in found if words]


# --- the house as it stands

FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
LIGHT = [module_of(file) for file in FILES if room_of(file) not in DOORS]


@pytest.mark.parametrize("file", FILES)
def test_imports_point_upwards(file):
    assert faults((ROOT / file).read_text(encoding="utf-8"), file) == []


IMPORT_ONE_BY_ONE = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    loaded = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
    if loaded:
        sys.exit(f"importing {name} loads {', '.join(loaded)}")
"""


def test_without_the_doors_nothing_heavy_is_loaded():
    modules = sorted(LIGHT, key=lambda name: (name != PACKAGE, name))  # the package alone comes first
    command = [sys.executable, "-c", IMPORT_ONE_BY_ONE, ",".join(sorted(HEAVY)), *modules]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert (run.returncode, run.stderr) == (0, "")


HAND_OUT_ALL = """
import importlib, sys, types
for name in sys.argv[3:]:
    importlib.import_module(name)
package = sys.modules[sys.argv[1]]
for name in sys.argv[2].split(","):
    if isinstance(getattr(package, name), types.ModuleType):
        sys.exit(f"{name} is a module")
"""


def test_a_room_that_is_open_hides_nothing_that_the_front_desk_hands_out():
    light = [name for name, room in kerassurgery_fn._ROOMS.items() if room not in DOORS]
    command = [sys.executable, "-c", HAND_OUT_ALL, PACKAGE, ",".join(light), *LIGHT]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert (run.returncode, run.stderr) == (0, "")


def test_no_room_has_the_name_of_something_that_the_front_desk_hands_out():
    """Opening the room would put the module in that thing's place."""
    assert not set(kerassurgery_fn.__all__) & set(ROOMS)


# --- sabotage: the checker finds what is wrong, and only that

WRONG = {
    "a room below": ("graph.py", "from .flow import channel_maps"),
    "a room below, by its full name": ("graph.py", "import kerassurgery_fn.flow"),
    "a room below, as a name of the package": ("graph.py", "from . import errors, flow"),
    "a room below, from inside a family": ("rules/dense.py", "from ..edits.delete import DeleteLayer"),
    "a room below, in a function in a class": ("plan.py", "class A:\n def f(self):\n  from .codec import encode"),
    "a room below, for its types": ("rules/dense.py", "if TYPE_CHECKING:\n from ..flow import Flow"),
    "a room below, by a string": ("graph.py", "importlib.import_module('.live', __package__)"),
    "the front desk": ("cli.py", "from kerassurgery_fn import capture"),
    "the front desk as a whole": ("edits/__init__.py", "import kerassurgery_fn"),
    "keras": ("graph.py", "import keras"),
    "keras at the front desk": ("__init__.py", "def __getattr__(name):\n import keras"),
    "a part of keras": ("rules/dense.py", "from keras.src.layers import Dense"),
    "tensorflow in a function": ("scores/basic.py", "def f():\n try:\n  import tensorflow as tf\n except E:\n  pass"),
    "keras where types are not checked": ("graph.py", "if TYPE_CHECKING:\n pass\nelse:\n import keras"),
    "keras by a string": ("graph.py", "keras = __import__('keras')"),
    "a file nobody knows": ("helpers.py", ""),
    "a family nobody knows": ("utils/axes.py", ""),
}

RIGHT = {
    "rooms above": ("flow.py", "from .rules.dense import RULES\nfrom . import errors\nimport kerassurgery_fn.graph"),
    "its own family": ("rules/__init__.py", "from . import dense\nfrom .conv import RULES"),
    "its own family, from inside": ("rules/dense.py", "from .conv import RULES\nfrom ..channels import tie"),
    "other people's packages": ("channels.py", "import numpy as np\nfrom toolz import pipe\nimport graph, keras_like"),
    "the version": ("archive.py", "from kerassurgery_fn import __version__"),
    "keras at a door": ("live.py", "import keras\nfrom tensorflow import function"),
    "keras for its types": ("report.py", "if typing.TYPE_CHECKING:\n import keras"),
    "everything at the front desk": ("__init__.py", "def __getattr__(name):\n from . import cli\n from .live import a"),
}


def test_the_examples_of_the_checker():
    assert doctest.testmod(sys.modules[__name__]).failed == 0


@pytest.mark.parametrize("file, source", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_import_is_found(file, source):
    assert len(faults(source, file)) == 1


@pytest.mark.parametrize("file, source", RIGHT.values(), ids=RIGHT.keys())
def test_a_right_import_is_not(file, source):
    assert faults(source, file) == []


def test_a_fault_names_the_line_and_the_rooms():
    source = dedent(
        """
        import numpy as np

        def channel_maps():
            from kerassurgery_fn.flow import channel_maps
        """
    )
    assert faults(source, "graph.py") == [
        "graph.py:5 imports kerassurgery_fn.flow.channel_maps, but the room 'flow' is not above 'graph'"
    ]
