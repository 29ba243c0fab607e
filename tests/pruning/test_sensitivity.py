"""`Sensitivity` as a value, its ratios in planning, its files and its plot; and weights that are masked. No Keras."""

import json

import numpy as np
import pytest

from helpers.pruned_models import filled, residual, vgg
from kerassurgery_fn import (
    BadDocument,
    BadFile,
    BadValue,
    Sensitivity,
    UnknownVersion,
    cost,
    groups,
    importance,
    load_sensitivity,
    plan_pruning,
    prune,
    save_sensitivity,
)
from kerassurgery_fn.pruning.channel_sensitivity import reached
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.masked_weights import masked_weights

FOUND = Sensitivity(
    "fpgm", 0.9, {"conv_0": {0.25: 0.9, 0.5: 0.88, 0.75: 0.3}, "conv_1": {0.75: 0.89, 0.25: 0.91, 0.5: float("nan")}}
)


def test_ratios_end_where_the_metric_falls_first():
    assert FOUND.ratios(0.02) == {"conv_0": 0.5, "conv_1": 0.25}
    assert FOUND.ratios(0.31) == {"conv_0": 0.625, "conv_1": 0.25}
    assert FOUND.ratios(0.0) == {"conv_0": 0.25, "conv_1": 0.25}
    assert FOUND.ratios(10) == {"conv_0": 0.75, "conv_1": 0.25}


@pytest.mark.parametrize("seed", range(5))
def test_reached_against_a_fine_grid(seed):
    """The curve between the points is linear: the slow way walks along it."""
    rng = np.random.default_rng(seed)
    ratios, metrics = np.arange(1, 6) / 6, 1 - np.cumsum(rng.uniform(-0.05, 0.2, 5))
    grid = np.linspace(0, ratios[-1], 20001)
    curve = np.interp(grid, [0, *ratios], [1, *metrics])
    below = np.flatnonzero(curve < 0.8)
    expected = grid[below[0]] if len(below) else ratios[-1]
    found = reached(1.0, dict(zip(ratios.tolist(), metrics.tolist(), strict=True)), 0.8)
    assert found == pytest.approx(expected, abs=2e-3)


def test_ratios_agree_with_a_plan():
    snapshot = filled(vgg(12, 16))
    assert prune(snapshot, ratios=FOUND.ratios(0.02)).widths == {"conv_0": (12, 6), "conv_1": (16, 12)}
    limited = prune(snapshot, macs=0.6, max_ratio=FOUND.ratios(0.02))
    assert limited.after.macs <= 0.6 * cost(snapshot).macs
    assert limited.widths["conv_1"][1] >= 12


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_a_tolerance_is_not_negative(tolerance):
    with pytest.raises(BadValue, match="tolerance: expected how far the metric may fall"):
        Sensitivity("magnitude", 0.5, {"a": {0.5: 0.5}}).ratios(tolerance)


def test_ratios_that_are_all_zero_cut_nothing():
    snapshot = filled(vgg(12, 16))
    none = Sensitivity("fpgm", 0.9, {"conv_0": {0.5: 0.1}}).ratios(0)
    assert none == {"conv_0": 0.0}
    with pytest.raises(BadValue, match="nothing would be cut: all ratios are 0"):
        plan_pruning(snapshot, importance(snapshot), ratios=none)


def test_it_prints_as_a_table():
    lines = [line.split() for line in repr(FOUND).splitlines()]
    assert lines[0] == ["sensitivity", "by", "fpgm,", "from", "0.9"]
    assert lines[1:3] == [["group", "0.25", "0.5", "0.75"], ["conv_0", "0.9", "0.88", "0.3"]]
    assert "conv_1" in FOUND._repr_html_()


def test_it_is_written_and_read(tmp_path):
    save_sensitivity(FOUND, tmp_path / "found.json")
    again = load_sensitivity(tmp_path / "found.json")
    assert repr(again) == repr(FOUND)
    assert again.metrics["conv_0"] == FOUND.metrics["conv_0"]
    assert np.isnan(again.metrics["conv_1"][0.5])


def test_bad_files_and_values(tmp_path):
    path = tmp_path / "found.json"
    with pytest.raises(BadFile):
        load_sensitivity(path)
    save_sensitivity(FOUND, path)
    data = json.loads(path.read_text())
    for change, error in (
        ({"version": 2}, UnknownVersion), ({"format": "x"}, BadDocument), ({"baseline": None}, BadDocument),
        ({"metrics": {"a": {"2": 0.5}}}, BadDocument), ({"metrics": {"a": 3}}, BadDocument),
    ):  # fmt: skip
        path.write_text(json.dumps(data | change))
        with pytest.raises(error):
            load_sensitivity(path)
    with pytest.raises(BadValue, match="expected a Sensitivity"):
        save_sensitivity(3, path)
    with pytest.raises(BadValue, match=r"metrics\['a'\]: a ratio is between 0 and 1, not 1.5"):
        Sensitivity("fpgm", 0.9, {"a": {1.5: 0.2}})
    with pytest.raises(BadValue, match="tolerance: expected a number"):
        FOUND.ratios("1 %")


def test_it_is_plotted():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from kerassurgery_fn import plot_sensitivity

    ax = plot_sensitivity(FOUND)
    assert [line.get_label() for line in ax.lines] == ["conv_0", "conv_1"]
    assert ax.lines[0].get_xdata().tolist() == [0, 0.25, 0.5, 0.75]
    assert ax.lines[0].get_ydata().tolist() == [0.9, 0.9, 0.88, 0.3]
    with pytest.raises(BadValue, match="must be the result of sensitivity"):
        plot_sensitivity({"a": 1})


def test_masked_weights_are_zero_where_a_cut_removes():
    snapshot = filled(residual(6, 5))
    group = named_groups(groups(snapshot))["stem"]
    masked = masked_weights(snapshot.weights, group, np.array([1, 4]))
    assert {*masked} == {"stem", "a_1", "a_2", "bn", "b_1", "b_2", "top"}
    for path, axis in {"stem": 3, "a_1": 2, "a_2": 3, "b_1": 2, "b_2": 3, "top": 0}.items():
        old, new = snapshot.weights[path][0], masked[path][0]
        assert (np.delete(new, [1, 4], axis) == np.delete(old, [1, 4], axis)).all()
        assert not np.take(new, [1, 4], axis).any()
    assert [array[1] == 0 for array in masked["bn"]] == [True, True, False, False]  # statistics stay
    assert snapshot.weights["stem"][0].all()  # the snapshot is not changed
