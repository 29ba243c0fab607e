"""The commands of `kerassurgery`."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Annotated, Any

import typer
from toolz import keyfilter

from kerassurgery_fn import __version__
from kerassurgery_fn.analysis.coupled_groups import groups
from kerassurgery_fn.analysis.layer_costs import cost
from kerassurgery_fn.archive import read_model, read_weights
from kerassurgery_fn.archive.file_checks import ERROR, Problem, find_problems
from kerassurgery_fn.arguments.suggestions import counted
from kerassurgery_fn.cli.argument_values import budget_of, content_of, depth_of
from kerassurgery_fn.cli.edit_verbs import FILE, JSON, OUT, OVERWRITE, add_verbs
from kerassurgery_fn.cli.edited_files import TFLITE, apply, read, refuse_targets, write, write_tflite
from kerassurgery_fn.cli.terminal import DEBUG, REFUSED, discard_output, print_json, print_tables, refusing, working
from kerassurgery_fn.differences import diff, load_diff, patch, save_diff
from kerassurgery_fn.documents.field_types import is_library_name
from kerassurgery_fn.documents.plan_files import decode, loads, save_plan
from kerassurgery_fn.documents.preconditions import made_for
from kerassurgery_fn.edits import EDITS
from kerassurgery_fn.errors import BadFile
from kerassurgery_fn.measure.data_files import read_data
from kerassurgery_fn.measure.model_pruning import prune as pruned
from kerassurgery_fn.pruning.latency_files import load_latencies, save_latencies
from kerassurgery_fn.pruning.model_latency import latency as latency_of
from kerassurgery_fn.report import report_html, tables_of
from kerassurgery_fn.report.explanation import explain as explained
from kerassurgery_fn.values.tables import Table

app = typer.Typer(
    help="Surgery on .keras files, without Keras. Exit codes: 0 done, 1 refused, 2 wrong usage.",
    invoke_without_command=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
LATENCIES = Annotated[Path | None, typer.Option(help="the latencies of layers, from `latencies`")]
PLAN = Annotated[str, typer.Argument(help="a plan as JSON, from save_plan or prune --plan; - for standard input")]


@app.callback()
def settings(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    rules: Annotated[
        Path | None, typer.Option(help="a Python file with rules for layers and with edits of your own; it is run")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="print the version", is_eager=True)] = False,
) -> None:
    DEBUG.set(debug)
    if rules is not None:
        refusing(run_file)(rules)
    if version:
        typer.echo(__version__)
        raise typer.Exit


def command(panel: str, example: str) -> Any:
    """Adds a command; the example begins with its name."""
    name, epilog = example.split()[0], f"Example: kerassurgery {example}"
    return lambda function: app.command(name, epilog=epilog, rich_help_panel=panel)(refusing(function))


# --- look


@command("Look", "show model.keras")
def show(source: FILE, as_json: JSON = False) -> None:
    """Layers, output shapes and parameters of a model."""
    print_tables(tables_of(read(source)), as_json)


@command("Look", "groups model.keras")
def show_groups(source: FILE, as_json: JSON = False) -> None:
    """Which channels are cut together, and which cannot be cut and why."""
    print_tables([groups(read(source)).table()], as_json)


@command("Look", "cost model.keras --json")
def show_cost(source: FILE, latency_table: LATENCIES = None, as_json: JSON = False) -> None:
    """Parameters, multiply-accumulates and bytes, layer by layer, and latencies by a table."""
    snapshot = read(source)
    latencies = [] if latency_table is None else [latency_of(snapshot, load_latencies(latency_table)).table()]
    print_tables([cost(snapshot).table(), *latencies], as_json)


@command("Look", "latencies model.keras -o latencies.json")
def measure(
    source: FILE,
    out: Annotated[Path, typer.Option("--out", "-o", help="write the latencies, for `prune --latency`")],
    runtime: Annotated[
        str | None, typer.Option(help="litert or keras; by default LiteRT where it is installed")
    ] = None,
    threads: Annotated[int, typer.Option(help="the number of threads of LiteRT")] = 1,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
) -> None:
    """Measures how long the layers of a model take on this machine, in LiteRT or Keras."""
    from kerassurgery_fn.measure.latency_measurement import measure_latencies

    refuse_targets(None, out, overwrite=overwrite)
    progress = False if as_json else None
    latencies = measure_latencies(read(source), runtime=runtime, threads=threads, progress=progress)
    save_latencies(latencies, out)
    print_tables([latencies.table()], as_json)


@command("Look", "explain plan.json model.keras")
def explain(plan: PLAN, source: FILE, as_json: JSON = False) -> None:
    """What a plan would do to a model, and why, without doing it."""
    print_tables(explained(_plan(plan), read(source)).tables(), as_json)


@command("Look", "diff a.keras b.keras -o changes.json")
def compare(
    a: FILE,
    b: Annotated[Path, typer.Argument(help="the .keras file to compare it with")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the difference, for `patch`")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write a web page that compares the models")] = None,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
) -> None:
    """What differs between two models: layers, channels, config, values."""
    refuse_targets(None, out, html, overwrite=overwrite)
    before, after = read(a), read(b)
    with working("comparing"):
        difference = diff(before, after)
    if out is not None:
        save_diff(difference, out)
    if html is not None:
        report_html(before, after, html)
    print_tables(difference.tables(), as_json)


@command("Look", "check model.keras")
def check(source: FILE, as_json: JSON = False) -> None:
    """Every problem of a file: damage, and weights that do not match its config. The exit code is 1 for errors."""
    with working(f"checking {source}"):
        problems = find_problems(str(source))
    errors = sum(problem.severity == ERROR for problem in problems)
    if as_json:
        print_json({
            "file": str(source), "errors": errors, "warnings": len(problems) - errors,
            "problems": [problem._asdict() for problem in problems],
        })  # fmt: skip
    elif problems:
        title = f"{source}: {counted(errors, 'error')}, {counted(len(problems) - errors, 'warning')}"
        print_tables([Table(title, Problem._fields, tuple(problems))], as_json)
    else:
        typer.echo(f"{source}: no problem; {read_model(source, lazy=True)!r}")
    if errors:
        raise typer.Exit(REFUSED)


# --- change


@command("Change", "apply plan.json model.keras -o edited.keras")
def apply_plan(plan: PLAN, source: FILE, target: OUT, overwrite: OVERWRITE = False, as_json: JSON = False) -> None:
    """A model after a plan of edits."""
    apply(_plan(plan), source, target, overwrite, as_json)


@command("Change", "patch a.keras changes.json -o b.keras")
def apply_difference(
    source: FILE,
    difference: Annotated[Path, typer.Argument(help="a difference from `diff -o`")],
    target: OUT,
    check: Annotated[bool, typer.Option("--check/--no-check", help="refuse another model than the first one")] = True,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
) -> None:
    """A model with a difference applied: the second model that was compared."""
    refuse_targets(target, overwrite=overwrite)
    before = read(source)
    write(before, patch(before, load_diff(difference), check=check), source, target, overwrite, as_json)


@command("Change", "load-weights model.keras trained.weights.h5 -o trained.keras")
def load_weights(
    source: FILE,
    weights: Annotated[Path, typer.Argument(help="a .weights.h5, .weights.json or .keras file")],
    target: OUT,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
) -> None:
    """A model with the weights of another file."""
    refuse_targets(target, overwrite=overwrite)
    before = read(source)
    write(before, read_weights(weights, before, lazy=True), source, target, overwrite, as_json)


@command("Change", "convert model.keras -o model.weights.h5")
def convert(
    source: FILE,
    target: OUT,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
    tflite: Annotated[bool, typer.Option("--tflite", help="write TensorFlow Lite, by TensorFlow")] = False,
    quantize: Annotated[str | None, typer.Option(help="with --tflite, store weights as float16 or int8")] = None,
) -> None:
    """A model in another kind of file: .keras, a folder or .h5 as .keras, .weights.h5 or .tflite."""
    is_lite = tflite or target.suffix == TFLITE or quantize is not None
    refuse_targets(None if is_lite else target, target, overwrite=overwrite)
    if is_lite:
        write_tflite(read(source), target, quantize, as_json)
        return
    model = read(source)
    write(model, model, source, target, overwrite, as_json)


Budget = Annotated[float | None, typer.Option(help="the budget: a fraction of the model, or a number above 1")]


@command("Change", "prune model.keras --macs 0.5 -o small.keras")
def prune(
    source: FILE,
    target: OUT,
    macs: Budget = None,
    parameters: Budget = None,
    size: Annotated[float | None, typer.Option("--bytes", help="as for --macs")] = None,
    channels: Budget = None,
    latency: Annotated[
        float | None, typer.Option(help="the budget: a fraction of the latency, or microseconds above 1")
    ] = None,
    latency_table: LATENCIES = None,
    by: Annotated[str, typer.Option(help="the criterion of importance")] = "magnitude",
    data: Annotated[
        Path | None, typer.Option(help="an .npz file with x (and y), or a folder of these, for criteria that need data")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="the loss, for criteria on gradients; else the compiled one")] = None,
    scope: Annotated[str, typer.Option(help="global, local or isomorphic")] = "global",
    depth: Annotated[str, typer.Option(help="the fraction of residual blocks to delete first, or 'only'")] = "0",
    round_to: Annotated[int, typer.Option(help="widths become multiples of it")] = 1,
    min_channels: Annotated[int, typer.Option(help="the smallest number of channels of a group")] = 1,
    ignore: Annotated[list[str] | None, typer.Option(help="a pattern of layers that are not changed")] = None,
    inexact: Annotated[bool, typer.Option("--inexact", help="cut across normalisations and softmax, too")] = False,
    closest: Annotated[bool, typer.Option("--closest", help="come as close as possible to the budget")] = False,
    plan: Annotated[Path | None, typer.Option(help="write the plan, tied to the model")] = None,
    report: Annotated[Path | None, typer.Option(help="write a web page that compares the models")] = None,
    overwrite: OVERWRITE = False,
    as_json: JSON = False,
) -> None:
    """A model without its least important channels, within a budget."""
    refuse_targets(target, plan, report, overwrite=overwrite)
    before = read(source)
    with working("pruning"):
        result = pruned(
            before, by=by, macs=budget_of(macs), parameters=budget_of(parameters), bytes=budget_of(size),
            channels=budget_of(channels), latency=latency,
            latency_table=None if latency_table is None else load_latencies(latency_table), scope=scope,
            round_to=round_to, min_channels=min_channels, ignore=tuple(ignore or ()), inexact=inexact, closest=closest,
            loss=loss, progress=False, depth=depth_of(depth), data=None if data is None else read_data(data),
        )  # fmt: skip
    if plan is not None:
        save_plan(made_for(result.plan, before), plan)
    if report is not None:
        report_html(before, result.model, report)
    write(before, result.model, source, target, overwrite, as_json, result.plan)
    if not as_json:
        print_tables([result.table()], as_json)


def run_file(path: Path) -> None:
    """Runs a file that registers rules or edits. Only a file that the user names is run.

    Raises:
        BadFile: the file cannot be read, or raises an exception.
    """
    if not path.is_file():
        raise BadFile(f"{path} is no file")
    try:
        runpy.run_path(str(path), run_name="rules")
    except Exception as error:  # the user's code may raise anything
        raise BadFile(f"{path} cannot be run: {type(error).__name__}: {error}") from error


def _plan(path: str) -> Any:
    return decode(loads(content_of(path), path))


add_verbs(app, keyfilter(is_library_name, EDITS))


def main() -> None:
    """Runs the command that the arguments of the program name."""
    try:
        app()
    except BrokenPipeError:  # the reader of the output has gone, as with `| head`
        discard_output()
        raise SystemExit(1) from None
