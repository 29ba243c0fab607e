"""One command for each edit, generated from the fields of its class.

    DeleteChannels(channels: Mapping, allow_output_change: bool = False)
    kerassurgery delete-channels FILE conv_1=0,4 --allow-output-change -o OUT

Fields without a default are arguments, all others are options.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from kerassurgery_fn.cli.argument_values import parse, parse_pairs
from kerassurgery_fn.cli.edited_files import apply
from kerassurgery_fn.cli.terminal import refusing
from kerassurgery_fn.documents.field_types import field_hints

FILE = Annotated[Path, typer.Argument(help="a .keras file, its folder form, or a .h5 file of Keras 2")]
OUT = Annotated[Path, typer.Option("--out", "-o", help="the .keras file to write, or .weights.h5 for the weights only")]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", "-f", help="replace a file that exists")]
JSON = Annotated[bool, typer.Option("--json", help="print JSON")]
RESERVED = {"source", "target", "overwrite", "as_json"}
EXAMPLES = {
    "DeleteChannels": "conv_1=0,4", "KeepChannels": "dense_1=0-11", "ReorderChannels": "dense_1=1,0",
    "WidenChannels": "dense_1=48", "DeleteLayer": "dropout", "RenameLayer": "conv_2 stem", "ReplaceHead": "7",
    "SetConfig": "dense_1 activation=gelu", "SetTrainable": '--layer "conv_*" --no-trainable',
    "ConvertDtype": "mixed_float16", "ExtractModel": "relu_1,dense_1", "DeepenLayer": "conv_1 --after relu_1",
    "UnshareLayer": "tower --calls 1", "InsertLayer": "@dropout.json --before predictions",
    "ReplaceLayer": "relu_1 @gelu.json", "SetInputShape": "image --shape 48,64,3",
    "MixInputs": "conv_2 conv_1 @matrix.json",
    "AddInput": "depth 48,64,1", "SetOutputs": "predictions,relu_1",
    "RenameModel": "detector", "DeleteBlock": "block_3_add", "FlattenModel": "backbone",
    "NestLayers": "conv_1,bn_1 stem",
}  # fmt: skip


def verb_of(name: str) -> str:
    """
    >>> verb_of("FoldBatchNorm")
    'fold-batch-norm'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def add_verbs(app: typer.Typer, edits: Mapping[str, type]) -> None:
    """Adds a command for each class of edits."""
    for name, cls in edits.items():
        example = f"Example: kerassurgery {verb_of(name)} model.keras {EXAMPLES.get(name, '')} -o edited.keras"
        app.command(verb_of(name), epilog=" ".join(example.split()), rich_help_panel="Edits")(_command(cls))


def _command(cls: type[Any]) -> Callable[..., Any]:
    """The command of a class of edits. Typer reads its arguments and options from its signature."""
    hints = field_hints(cls)

    def command(source: Path, target: Path, overwrite: bool, as_json: bool, **values: Any) -> None:
        given = {
            name: _value(hints[name], value) for name, value in values.items() if value is not None and value != []
        }
        apply(constructed(cls, given), source, target, overwrite, as_json)

    command.__doc__ = (cls.__doc__ or "").strip().partition("\n\n")[0]
    parameters = [
        _parameter("source", FILE),
        *(_field_parameter(field, hints[field.name]) for field in fields(cls) if _is_required(field)),
        *(_field_parameter(field, hints[field.name]) for field in fields(cls) if not _is_required(field)),
        _parameter("target", OUT), _parameter("overwrite", OVERWRITE, False), _parameter("as_json", JSON, False),
    ]  # fmt: skip
    refused: Any = refusing(command)
    refused.__signature__ = inspect.Signature(parameters)
    refused.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return refused


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _field_parameter(field: Field[Any], hint: Any) -> inspect.Parameter:
    """The argument or the option of a field. A mapping is passed as words NAME=VALUE, any other value as one word."""
    many = get_origin(hint) is not None and issubclass(_origin(hint), Mapping)
    metavar = "NAME=VALUE" if many else field.name.upper()
    if _is_required(field):
        return _parameter(field.name, Annotated[list[str] if many else str, typer.Argument(metavar=metavar)])
    option = f"--{field.name.replace('_', '-')}"
    if hint is bool:
        spelled = f"{option}/--no-{option[2:]}"
        return _parameter(field.name, Annotated[bool, typer.Option(spelled)], field.default)
    annotation: Any = list[str] | None if many else str | None
    return _parameter(field.name, Annotated[annotation, typer.Option(option, metavar=metavar)], None)


def _origin(hint: Any) -> type:
    origin = get_origin(hint)
    return origin if isinstance(origin, type) else NoneType


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _value(hint: Any, value: Any) -> Any:
    """The value of a field. A name stays text, even if it looks like a number. A number can be used for a list of
    one."""
    if isinstance(value, list):
        return parse_pairs(value, str if get_args(hint)[0] is str else parse)
    kinds = set(get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]) - {NoneType}
    if isinstance(value, bool) or kinds == {str}:
        return value
    parsed = parse(value)
    is_number_of_list = type(parsed) is int and all(get_origin(kind) is tuple for kind in kinds)
    return [parsed] if is_number_of_list else parsed


def constructed(cls: type[Any], values: Mapping[str, Any]) -> Any:
    """The edit with the values of its fields.

    Constructors take fields without a default in order, and one that is written `**fields` as keywords.
    """
    parameters = inspect.signature(cls).parameters
    keywords = {
        name for name in values if name in parameters and parameters[name].kind is inspect.Parameter.VAR_KEYWORD
    }
    required = [field.name for field in fields(cls) if _is_required(field) and field.name not in keywords]
    positional = [values[name] for name in required if name in values]
    rest = {name: value for name, value in values.items() if name not in {*required, *keywords}}
    return cls(*positional, **rest, **{key: value for name in keywords for key, value in values[name].items()})
