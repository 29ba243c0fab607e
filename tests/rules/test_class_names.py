"""What the library knows about a class of Keras is in the record of the class, in `rules/`, and nowhere else."""

import ast
from pathlib import Path

import kerassurgery_fn
from kerassurgery_fn.rules import RULES

PACKAGE = Path(kerassurgery_fn.__file__).parent
CLASSES = {name for name in RULES if ">" not in name}
CLASSES |= {name.removeprefix("ops.") for name in CLASSES}

# Module -> the class names in it, each with the reason why it is there.
ALLOWED = {
    # Graphs have inputs and may have models inside wrappers; `graph` is below `rules` and cannot read them.
    "graph/records.py": {"InputLayer", "TimeDistributed"},
    "graph/record_schema.py": {"InputLayer"},
    # An edit makes an input.
    "edits/extraction.py": {"InputLayer"},
    # A config of Keras before 3.11 has other fields for inputs.
    "archive/saved_config.py": {"InputLayer"},
    # The base class of all layers, which tells a layer from other values.
    "arguments/converters.py": {"Layer"},
    "keras_io/layer_conversion.py": {"Layer"},
    "edits/plan.py": {"Layer"},
    # Names of our own that operations have, too.
    "differences/__init__.py": {"Diff"},
    "values/kept_results.py": {"Function"},
    "graph/__init__.py": {"Inner", "Trace"},
}


def strings(source):
    """The string literals of a module, without docstrings; of a regular expression `A|B`, both alternatives."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and is_text(node)}
    literals = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for node in literals if id(node) not in docstrings for text in node.value.split("|")}


def is_text(node):
    return bool(node.body) and isinstance(node.body[0], ast.Expr)


def class_names():
    """Module -> the names of Keras classes that are string literals in it, for all modules outside `rules`."""
    modules = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
    outside = {name: path for name, path in modules.items() if not name.startswith("rules/")}
    found = {name: strings(path.read_text(encoding="utf-8")) & CLASSES for name, path in outside.items()}
    return {name: names for name, names in found.items() if names}


def test_class_names_are_only_in_the_rules():
    assert class_names() == ALLOWED


def test_a_class_name_is_found():
    assert strings('"""Dense"""\nKINDS = {"Conv2D", f"{1}", "ReLU|ELU"}\ndef f():\n    "Add"\n') & CLASSES == {
        "Conv2D",
        "ReLU",
        "ELU",
    }
