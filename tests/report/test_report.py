"""Tables, pages and plots of models and of what is done to them."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from helpers.records import call, functional, layer, sequential, snapshot
from kerassurgery_fn import analyse
from kerassurgery_fn.analysis.coupled_groups import groups
from kerassurgery_fn.analysis.layer_costs import cost
from kerassurgery_fn.differences import diff
from kerassurgery_fn.documents.plan_algebra import diff_plans
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.report import plot_widths, report_html, show, tables_of
from kerassurgery_fn.report.drawing import drawing_of, in_order, lost_of
from kerassurgery_fn.report.explanation import explain
from kerassurgery_fn.report.page import data_of, page
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table, to_text


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def residual(name="net", first="a"):
    """Dense, normalisation and activation behind each other, and a branch that an Add joins."""
    record = functional(
        name,
        {"x": (None, 5)},
        call(layer("Dense", first, units=8), "x"),
        call(layer("BatchNormalization", "norm"), first),
        call(layer("ReLU", "relu"), "norm"),
        call(layer("Dense", "b", units=8), "relu"),
        call(layer("Add", "sum"), ["relu", "b"]),
        call(layer("Dense", "c", units=3), "sum"),
        outputs="c",
    )
    weights = {
        first: (draw(0, 5, 8), draw(1, 8)),
        "norm": tuple(draw(2 + i, 8) for i in range(4)),
        "b": (draw(6, 8, 8), draw(7, 8)),
        "c": (draw(8, 8, 3), draw(9, 3)),
    }
    return snapshot(record, weights)


FROM = residual()
TO = DeleteChannels("a", [0, 5, 6])(FROM)


# --- tables

THINGS = {
    "snapshot": (FROM, ["net", "BatchNormalization", "?x8", "7 layers"]),
    "cost": (cost(FROM), ["a", "total", "share", "%"]),
    "groups": (groups(FROM), ["a, b", "is an output of the model", "2 groups, 1 of them free with 8 channels"]),
    "explanation": (explain(DeleteChannels("a", [0]), FROM), ["Add 'sum' ties them to a", "MACs"]),
    "difference": (diff(FROM, TO), ["8 -> 5", "0 5-6"]),
    "difference of plans": (
        diff_plans(DeleteChannels("a", [0]), DeleteChannels("a", [1]), FROM),
        ["DeleteChannels(channels={'a': (1,)}", "deleted now", "kept now"],
    ),
}


@pytest.mark.parametrize("thing, words", THINGS.values(), ids=THINGS.keys())
def test_everything_is_shown_in_80_columns(thing, words):
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(thing, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for word in words:
        assert " ".join(word.split()) in " ".join(text.split()), text


@pytest.mark.parametrize("thing, _", THINGS.values(), ids=THINGS.keys())
def test_every_table_is_html_in_a_notebook(thing, _):
    for table in tables_of(thing):
        html = table._repr_html_()
        Balanced().feed(html)
        assert html.count("<tr>") == len(table.rows) + 1


@pytest.mark.parametrize(
    "thing", [FROM, cost(FROM), groups(FROM), diff(FROM, TO), explain(DeleteChannels("a", [0]), FROM)]
)
def test_what_one_looks_at_most_is_a_table_in_a_notebook(thing):
    html = thing._repr_html_()
    Balanced().feed(html)
    assert "<table" in html


class Balanced(HTMLParser):
    """Fails where tags are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_there_is_nothing_to_show_of_other_things():
    with pytest.raises(BadValue, match="a dict; there is of Snapshot"):
        tables_of({})


def test_a_long_table_is_cut_nowhere():
    table = Table("t", ("layer",), tuple((f"{'long_' * 20}{i}",) for i in range(3)))
    assert "".join(to_text(table).split()).count("long_") == 60


def test_a_difference_is_told_as_a_reviewer_reads_it():
    other = residual("net", "stem")
    record = json.loads(json.dumps(other.record))
    layers = record["config"]["layers"]
    layers[3]["config"]["negative_slope"] = 0.5
    layers[4]["inbound_nodes"][0]["args"][0]["config"]["keras_history"][0] = "norm"
    kernel, bias = other.weights["c"]
    changed = Snapshot(record, {**other.weights, "c": (kernel * np.float32(1.5), bias)})
    text = " ".join(str(diff(FROM, changed)).split())
    for words in (
        "renamed stem was a",
        "rewired b reads norm, not relu",
        "relu negative_slope 0.0 0.5",
        "c 1 of 2 24 50.00%",
    ):
        assert words in text
    assert "build_config" not in text
    assert str(diff(FROM, FROM)) == "no difference"


def test_layers_that_come_and_go_are_told():
    one = snapshot(sequential("net", (None, 3), layer("Dense", "a", units=2), layer("Dropout", "d")))
    other = snapshot(sequential("net", (None, 3), layer("Dense", "a", units=2), layer("Flatten", "f")))
    text = " ".join(str(diff(one, other)).split())
    assert "removed d" in text
    assert "added f Flatten" in text


# --- what there is to draw


def test_layers_that_only_carry_channels_are_drawn_with_the_one_that_makes_them():
    drawing = drawing_of(FROM)
    assert list(drawing.boxes) == [("x",), ("a", "norm", "relu"), ("b",), ("sum",), ("c",)]
    assert set(drawing.lines) == {("x", "a"), ("a", "b"), ("a", "sum"), ("b", "sum"), ("sum", "c")}
    assert drawing.layers["norm"].channels == 8
    assert drawing.layers["a"].weights == ((5, 8), (8,))


def test_what_is_gone_is_known_of_layers_that_make_no_channels_too():
    lost = lost_of(analyse(FROM), diff(FROM, TO))
    assert [path for path, positions in lost.items() if positions == [0, 5, 6]] == ["a", "norm", "relu", "b", "sum"]
    assert lost["c"] == []


def test_layers_of_both_models_stand_in_order():
    one, other = drawing_of(FROM), drawing_of(residual(first="stem"))
    assert list(in_order(one, other, {"stem": "a"}))[:3] == [("x", "x"), ("a", "stem"), ("norm", "norm")]
    assert list(in_order(one, other, {}))[:4] == [("x", "x"), ("a", None), (None, "stem"), ("norm", "norm")]


def test_the_data_of_the_page():
    data = data_of(FROM, TO)
    (row,) = [row for row in data["rows"] if row["path"] == "b"]
    assert (row["channels"], row["parameters"], row["macs"]) == ([8, 5], [72, 30], [64, 25])
    assert (row["state"], row["lost"]) == ("same", "0 5-6")
    assert data["totals"]["parameters"] == [cost(FROM).parameters, cost(TO).parameters]
    widths = {side: {box["id"]: box["width"] for box in data[side]["boxes"]} for side in ("before", "after")}
    assert widths["before"] == {"x": 5, "a": 8, "b": 8, "sum": 8, "c": 3}
    assert widths["after"] == {"x": 5, "a": 5, "b": 5, "sum": 5, "c": 3}
    assert data["before"]["boxes"][1]["lost"] == [[0, 1], [5, 7]]


def test_layers_that_come_and_go_are_marked():
    one = snapshot(sequential("net", (None, 3), layer("Dense", "a", units=2), layer("Dense", "d", units=3)))
    other = snapshot(
        sequential(
            "net",
            (None, 3),
            layer("Dense", "a", units=2),
            layer("LSTM", "f", units=4),
        )
    )
    data = data_of(one, other)
    assert [box["id"] for box in data["before"]["boxes"] if box["marked"]] == ["d"]
    assert [box["id"] for box in data["after"]["boxes"] if box["marked"]] == ["f"]
    assert {row["path"]: row["state"] for row in data["rows"]} == {
        "net_input": "same", "a": "same", "d": "removed", "f": "added",
    }  # fmt: skip


# --- the page


def test_the_page_needs_nothing_else_and_runs_nothing_of_the_model(tmp_path):
    odd = residual("</script><script>alert(1)</script>", "<b>&amp;'\"")
    report_html(odd, DeleteChannels("b", [0])(odd), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    assert not re.findall(r"(?:src|href)\s*=", text)
    assert "alert(1)</script>" not in text
    assert text.count("<script") == text.count("</script>") == 3
    assert "default-src 'none'" in text


def test_the_page_has_the_title_that_is_given():
    assert "<h1>Pruned &amp; tuned</h1>" in page(FROM, TO, title="Pruned & tuned")


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000")


def chromium(folder, *flags):
    """What headless Chromium prints for the page in a folder."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, (folder / "report.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@needs_chromium
def test_a_browser_draws_every_layer(tmp_path):
    report_html(FROM, TO, tmp_path / "report.html")
    text = chromium(tmp_path, "--dump-dom")
    assert 'data-ready="yes"' in text
    assert len(re.findall(r'<g class="box ', text)) == 10
    assert len(re.findall(r'class="edge"', text)) == 10
    assert len(re.findall(r'class="cut"', text)) == 3
    assert len(re.findall(r"<tr class=\"same\">", text)) == 7
    bars = [float(width) for width in re.findall(r'class="bar"[^>]* width="([\d.]+)"', text)]
    assert bars[1] / bars[6] == pytest.approx(8 / 5)


def near(picture, colour):
    """How many pixels of a picture have a colour."""
    return int((np.abs(picture[..., :3] - np.array(colour) / 255).max(axis=-1) < 0.02).sum())


@needs_chromium
def test_a_screenshot_shows_what_stays_and_what_goes(tmp_path):
    image = pytest.importorskip("matplotlib.image", reason="reading a picture needs matplotlib")
    report_html(FROM, TO, tmp_path / "report.html")
    chromium(tmp_path, f"--screenshot={tmp_path / 'after.png'}", "--window-size=1400,1000")
    report_html(FROM, FROM, tmp_path / "report.html")
    chromium(tmp_path, f"--screenshot={tmp_path / 'before.png'}", "--window-size=1400,1000")
    after, before = (image.imread(tmp_path / name) for name in ("after.png", "before.png"))
    assert after.shape == (1000, 1400, 4) or after.shape == (1000, 1400, 3)
    kept, lost = (59, 120, 181), (232, 98, 44)
    assert near(after, lost) > near(before, lost) + 3000
    assert near(before, kept) > near(after, kept) + 3000 > 6000


@needs_chromium
def test_four_hundred_layers_are_drawn(tmp_path):
    names = [f"dense_{i}" for i in range(400)]
    deep = snapshot(
        sequential("deep", (None, 8), *(layer("Dense", name, units=8) for name in names)),
        {name: (draw(i, 8, 8), draw(i + 500, 8)) for i, name in enumerate(names)},
    )
    plan = DeleteChannels({"dense_7": [1], "dense_300": [2]})
    report_html(deep, plan(deep), tmp_path / "report.html")
    text = chromium(tmp_path, "--dump-dom")
    assert len(re.findall(r'<g class="box ', text)) == 802
    assert len(re.findall(r'class="cut"', text)) == 2


# --- the plot


def test_the_plot_has_a_bar_for_each_layer_that_makes_channels():
    matplotlib = pytest.importorskip("matplotlib", reason="plots need matplotlib: the extra `plot`")
    matplotlib.use("Agg")
    axes = plot_widths(FROM, TO)
    before, after = (list(container.datavalues) for container in axes.containers)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (before, after) == ([8, 8, 3], [5, 5, 3])
    assert plot_widths(FROM, TO, axes) is axes


def test_numbers_stand_on_the_right():
    table = Table("", ("a", "b", "c"), (("x", "1 -> 2 (+3 %)", 7), ("y", "3 of 4", None)))
    assert table.sides == ["left", "right", "right"]
    assert Table("", ("a",), (("1 2 3",), ("0-4 and 3 more",))).sides == ["left"]


@pytest.mark.keras
def test_heads_that_go_are_told_where_no_width_changes():
    keras = pytest.importorskip("keras")
    from kerassurgery_fn import capture

    x = keras.Input((5, 6))
    model = keras.Model(x, keras.layers.MultiHeadAttention(4, 3, name="attention")(x, x))
    before = capture(model)
    data = data_of(before, DeleteChannels("attention", num_heads=[1])(before))
    (row,) = [row for row in data["rows"] if row["path"] == "attention"]
    assert (row["lost"], row["channels"]) == ("num_heads: 1 of 4", [6, 6])
