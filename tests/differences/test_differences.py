"""Differences between models: exact, small, and found from the arrays alone."""

import json
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.records import call, functional, layer, numbers, sequential, snapshot
from kerassurgery_fn import analyse
from kerassurgery_fn.analysis.coupled_groups import groups
from kerassurgery_fn.differences import (
    Diff,
    Picks,
    Stored,
    decode_diff,
    diff,
    encode_diff,
    load_diff,
    patch,
    save_diff,
)
from kerassurgery_fn.differences.diff_files import DIFF
from kerassurgery_fn.differences.slices import NEW, KnownPositions, bits, find_slices
from kerassurgery_fn.documents.encoding import from_data, to_data
from kerassurgery_fn.documents.json_schema import published
from kerassurgery_fn.documents.plan_files import dumps, loads
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.edits.steps.channel_deletion import delete
from kerassurgery_fn.errors import BadDocument, BrokenSnapshot, OtherModel
from kerassurgery_fn.values.frozen import set_all, set_in
from kerassurgery_fn.values.snapshot import Snapshot, Training


def exact(a, b):
    """Whether two snapshots are equal to the last bit. 1, 1.0 and true are different values."""
    return (
        json.dumps(a.record, sort_keys=True) == json.dumps(b.record, sort_keys=True)
        and bits_of(a.weights) == bits_of(b.weights)
        and (a.training is None) == (b.training is None)
        and (a.training is None or a.training.slots == b.training.slots)
        and (a.training is None or bits_of({"": a.training.values}) == bits_of({"": b.training.values}))
    )


def bits_of(weights):
    return {path: [(a.dtype, a.shape, a.tobytes()) for a in arrays] for path, arrays in weights.items()}


def check(a, b):
    """The difference of two models, checked against all laws of differences."""
    difference = diff(a, b)
    again = decode_diff(loads(dumps(encode_diff(difference)).encode(), "text"))
    assert again == difference
    assert exact(patch(a, again), b)
    assert exact(difference(a), b)
    assert bool(difference) == (not exact(a, b))
    assert dumps(encode_diff(diff(a, b))) == dumps(encode_diff(difference))
    return difference


def stored(difference):
    """The number of elements that a difference stores."""
    pieces = [piece for change in difference.weights.values() for piece in change or ()]
    return sum(piece.values.size for piece in pieces if isinstance(piece, Stored))


def residual(**changes):
    """Two branches that an Add joins, behind a batch normalisation."""
    record = functional(
        "net",
        {"x": (None, 5)},
        call(layer("Dense", "a", units=8), "x"),
        call(layer("BatchNormalization", "norm"), "a"),
        call(layer("Dense", "b", units=8), "norm"),
        call(layer("Add", "sum"), ["norm", "b"]),
        call(layer("Dense", "c", units=3), "sum"),
        outputs="c",
    )
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype("float32")  # noqa: E731
    weights = {
        "a": (draw(5, 8), draw(8)),
        "norm": tuple(draw(8) for _ in range(4)),
        "b": (draw(8, 8), draw(8)),
        "c": (draw(8, 3), draw(3)),
    }
    return snapshot(record, {**weights, **changes})


FROM, TO = residual(), DeleteChannels("a", [0, 5, 6])(residual())


# --- channels


def test_a_pruned_model_consists_of_slices_of_the_original():
    difference = check(FROM, TO)
    assert stored(difference) == 0
    assert {address: difference.pick(index).lost.tolist() for address, index in difference.channels.items()} == {
        "a": [0, 5, 6],
        "b": [0, 5, 6],
    }
    assert len(difference.picks) == 1


def test_the_difference_from_a_pruned_model_to_the_original_stores_values():
    difference = check(TO, FROM)
    assert difference.changed["a"]["/config/units"] == (5, 8)
    assert stored(difference) > 0


def test_biases_of_zeros_are_sliced_like_their_kernels():
    zero = residual(a=(FROM.weights["a"][0], np.zeros(8, "float32")), b=(FROM.weights["b"][0], np.zeros(8, "float32")))
    difference = check(zero, DeleteChannels("a", [0, 5, 6])(zero))
    assert stored(difference) == 0
    assert len(difference.picks) == 1


def test_reordered_channels_are_found():
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    w = FROM.weights
    turned = residual(
        a=(w["a"][0][:, order], w["a"][1][order]),
        norm=tuple(x[order] for x in w["norm"]),
        b=(w["b"][0][order][:, order], w["b"][1][order]),
        c=(w["c"][0][order], w["c"][1]),
    )
    difference = check(FROM, turned)
    assert stored(difference) == 0
    assert difference.pick(difference.channels["a"]).kept == tuple(order)


def test_duplicated_channels_are_found():
    twice = [0, 1, 2, 3, 4, 5, 6, 7, 2, 2]
    a = (FROM.weights["a"][0][:, twice], FROM.weights["a"][1][twice])
    difference = check(FROM, Snapshot(FROM.record, {**FROM.weights, "a": a}))
    assert stored(difference) == 0
    assert difference.pick(difference.weights["a"][0][1]).positions.tolist() == twice


def test_only_the_new_classes_of_a_head_are_stored():
    kernel, bias = FROM.weights["c"]
    more = np.concatenate([kernel[:, [2, 0]], np.full((8, 1), 7, "float32")], axis=1)
    difference = check(FROM, Snapshot(FROM.record, {**FROM.weights, "c": (more, bias)}))
    assert stored(difference) == 8
    assert difference.pick(difference.weights["c"][0].picks[1]).positions.tolist() == [2, 0, NEW]


def test_few_changed_elements_are_stored_one_by_one_and_a_fine_tuned_array_whole():
    kernel = FROM.weights["b"][0].copy()
    kernel[3, 4] += 1
    difference = check(FROM, residual(b=(kernel, FROM.weights["b"][1] * np.float32(1.01))))
    kernel_change, bias_change = difference.weights["b"]
    assert kernel_change.values.tolist() == [kernel[3, 4]]
    assert bias_change.values.size == 8
    assert bias_change.moved == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "int8", "bool", "float64"])
def test_slices_of_arrays_with_few_different_values_are_found(dtype):
    rng = np.random.default_rng(1)
    old = rng.integers(0, 2, (40, 30)).astype(dtype)
    new = old[[1, 5, 6, 30]][:, 3:]
    known = KnownPositions()
    known.add(30, np.arange(3, 30))
    rows, columns = find_slices(bits(old), bits(new), known)
    assert (old[rows][:, columns] == new).all()


def with_noise(model, by):
    """The model with random noise on every value, `by` times the standard deviation of its array."""
    rng = np.random.default_rng(4)
    move = lambda a: (a + by * a.std() * rng.standard_normal(a.shape)).astype(a.dtype)  # noqa: E731
    return Snapshot(model.record, {path: tuple(map(move, arrays)) for path, arrays in model.weights.items()})


def test_channels_of_a_pruned_and_fine_tuned_model_are_found_by_their_values():
    difference = check(FROM, with_noise(TO, 0.05))
    assert stored(difference) == sum(array.size for arrays in TO.weights.values() for array in arrays)
    assert {address: difference.pick(index).lost.tolist() for address, index in difference.channels.items()} == {
        "a": [0, 5, 6],
        "b": [0, 5, 6],
    }
    pieces = [piece for change in difference.weights.values() for piece in change]
    assert all(0.02 < piece.moved < 0.1 for piece in pieces if len(piece.values) > 4)


def test_the_channels_that_are_left_are_not_read_from_a_bias_of_zeros():
    zero = residual(a=(FROM.weights["a"][0], np.zeros(8, "float32")))
    difference = check(zero, with_noise(DeleteChannels("a", [0, 5, 6])(zero), 0.05))
    assert difference.pick(difference.channels["a"]).lost.tolist() == [0, 5, 6]


def test_channels_with_unrelated_values_are_not_reported():
    assert check(FROM, with_noise(TO, 30)).channels == {}


def test_channels_after_a_flatten_are_tracked():
    dense = (layer("Dense", name, units=units) for name, units in {"d": 5, "e": 2}.items())
    record = sequential("net", (None, 4, 4, 2), layer("Conv2D", "conv", filters=6), layer("Flatten", "flat"), *dense)
    rng = np.random.default_rng(5)
    shapes = {"conv": [(2, 2, 2, 6), (6,)], "d": [(54, 5), (5,)], "e": [(5, 2), (2,)]}
    draw = lambda shape: rng.standard_normal(shape).astype("float32")  # noqa: E731
    whole = snapshot(record, {path: tuple(map(draw, some)) for path, some in shapes.items()})
    difference = check(whole, with_noise(DeleteChannels({"conv": [1, 4], "d": [0]})(whole), 0.05))
    assert {address: difference.pick(index).lost.tolist() for address, index in difference.channels.items()} == {
        "conv": [1, 4],
        "d": [0],
    }
    assert difference.weights["d"][0].moved < 0.1


def test_minus_zero_and_nan_are_kept():
    odd = np.array([-0.0, np.nan, 0.0, 1, 2, 3, 4, 5], "float32")
    assert stored(check(FROM, residual(b=(FROM.weights["b"][0], odd)))) == 8
    assert stored(check(residual(b=(FROM.weights["b"][0], odd)), residual(b=(FROM.weights["b"][0], abs(odd))))) < 8


def test_arrays_of_another_dtype_or_rank_are_stored_whole():
    half = residual(b=tuple(array.astype("float16") for array in FROM.weights["b"]))
    assert stored(check(FROM, half)) == 72
    assert stored(check(FROM, residual(c=(FROM.weights["c"][0], np.array(3, "float32"))))) == 1


# --- layers


def renamed(model, old, new):
    return Snapshot(
        json.loads(json.dumps(model.record).replace(f'"{old}"', f'"{new}"')),
        {new if path == old else path: arrays for path, arrays in model.weights.items()},
    )


def test_a_renamed_layer_is_matched_by_its_weights():
    difference = check(FROM, renamed(FROM, "norm", "stem"))
    assert dict(difference.sources) == {"stem": "norm"}
    assert (difference.removed, difference.added, difference.weights) == ((), {}, {})


def test_a_renamed_and_pruned_layer_is_matched_by_its_predecessor():
    difference = check(FROM, renamed(TO, "norm", "stem"))
    assert dict(difference.sources) == {"stem": "norm"}
    assert stored(difference) == 0


def chain(*names, **kinds):
    layers = [
        layer(kinds[name], name) if name in kinds else layer("Dense", name, units=4, activation=name) for name in names
    ]
    weights = {name: (numbers(4, 4) + ord(name), numbers(4) - ord(name)) for name in names if name not in kinds}
    return snapshot(sequential("net", (None, 4), *layers), weights)


def test_added_and_removed_layers_are_listed_and_other_layers_are_unchanged():
    difference = check(chain("a", "b", "c"), chain("a", "d", "c", d="Dropout"))
    assert (difference.removed, list(difference.added)) == (("b",), ["d"])
    assert difference.order[""] == ((0, 2), "d", (3, 4))
    assert difference.weights == {}


def test_reordered_layers_are_stored_as_runs():
    difference = check(chain("a", "b", "c"), chain("c", "a", "b"))
    assert (difference.removed, difference.added, difference.weights) == ((), {}, {})
    assert difference.order[""] == ((0, 1), (3, 4), (1, 3))


def test_the_weights_of_a_copied_layer_are_not_stored():
    two = chain("a", "b")
    difference = check(chain("a"), Snapshot(two.record, {**two.weights, "b": two.weights["a"]}))
    assert dict(difference.sources) == {"b": "a"}
    assert stored(difference) == 0


def nested(inner="backbone", dense="a", units=4):
    body = sequential(inner, (None, 3), layer("Dense", dense, units=units), layer("Dense", "z", units=2))
    record = functional("net", {"x": (None, 3)}, call(body, "x", out=(None, 2)), outputs=inner)
    weights = {
        f"{inner}/{dense}": (numbers(3, units), numbers(units)),
        f"{inner}/z": (numbers(units, 2), numbers(2)),
    }
    return snapshot(record, weights)


def test_the_weights_of_a_renamed_nested_model_are_not_stored():
    difference = check(nested(), nested(inner="body"))
    assert difference.sources["body"] == "backbone"
    assert (difference.removed, difference.added, difference.weights) == ((), {}, {})


def test_a_pruned_layer_in_a_nested_model():
    difference = check(nested(units=4), DeleteChannels("backbone/a", [1])(nested(units=4)))
    assert list(difference.channels) == ["backbone/a"]
    assert difference.changed["backbone/a"]["/config/units"] == (4, 3)
    assert difference.order == {}


def test_a_model_in_place_of_a_layer_and_the_other_way_round():
    flat = chain("backbone", "b", backbone="Dropout")
    check(nested(), flat)
    check(flat, nested())


def test_another_input_of_a_layer_is_listed():
    other = set_in(
        FROM.record, ("config", "layers", 5, "inbound_nodes", 0, "args", 0, "config", "keras_history", 0), "b"
    )
    difference = check(FROM, Snapshot(other, FROM.weights))
    assert difference.changed == {"c": {"/inbound_nodes/0/args/0/config/keras_history/0": ("sum", "b")}}


def test_config_keys_that_appear_disappear_or_change_their_type():
    record = deepcopy(json.loads(json.dumps(FROM.record)))
    config = record["config"]["layers"][1]["config"]
    config["a/b~c"], config["units"], config["use_bias"] = [1], 8.0, 1
    del config["activation"]
    difference = check(FROM, Snapshot(record, FROM.weights))
    assert difference.appeared == {"a": {"/config/a~1b~0c": [1]}}
    assert list(difference.dropped["a"]) == ["/config/activation"]
    assert {pointer: type(now) for pointer, (_, now) in difference.changed["a"].items()} == {
        "/config/units": float,
        "/config/use_bias": int,
    }


def test_the_state_of_the_optimizer_is_part_of_the_difference():
    slots = (None, ("a", 0), ("norm", 0), ("b", 0), ("a", 0))
    rng = np.random.default_rng(2)
    shapes = [(), (5, 8), (8,), (8, 8), (5, 8)]
    values = tuple(rng.standard_normal(shape).astype("float32") for shape in shapes)
    whole = Snapshot(FROM.record, FROM.weights, Training(slots, values))
    cut = DeleteChannels("a", [0, 5, 6])(whole)
    assert check(whole, whole).training == "same"
    assert not any(isinstance(piece, Stored) for piece in check(whole, cut).training.values)
    check(whole, FROM)
    check(FROM, whole)
    check(whole, Snapshot(FROM.record, FROM.weights, Training(slots[::-1], values[::-1])))


def test_a_model_does_not_differ_from_itself():
    difference = check(FROM, FROM)
    assert not difference
    assert patch(FROM, difference).weights["a"] is FROM.weights["a"]


# --- random models

words = st.sampled_from("abcdef")
kinds = st.sampled_from(["Dense", "Dropout", "BatchNormalization"])


@st.composite
def models(draw):
    """A chain of layers with arrays of any dtype; some arrays are slices of the same few arrays."""
    names = draw(st.lists(words, unique=True, min_size=1, max_size=5))
    layers, weights = [], {}
    for name in names:
        layers.append({**layer("Dense", name, units=draw(st.integers(1, 3))), "class_name": draw(kinds)})
        layers[-1]["config"]["extra"] = draw(st.sampled_from([1, 1.0, True, None, [1], [1, 2], {"a": 1}, {"b": []}]))
        if draw(st.booleans()):
            weights[name] = tuple(draw(arrays()) for _ in range(draw(st.integers(0, 2))))
    record = sequential("net", (None, 4))
    record["config"]["layers"] += layers
    if draw(st.booleans()):
        slots = tuple(draw(st.lists(st.none() | st.tuples(words, st.integers(0, 1)), max_size=3)))
        return Snapshot(record, weights, Training(slots, tuple(draw(arrays()) for _ in slots)))
    return Snapshot(record, weights)


POOL = np.random.default_rng(3).standard_normal((6, 7)).astype("float32")


@st.composite
def arrays(draw):
    pool = POOL.astype(draw(st.sampled_from(["float32", "float16", "int8", "bool", "complex128"])))
    rows, columns = (draw(st.lists(st.integers(0, n - 1), max_size=n)) for n in pool.shape)
    taken = pool[rows][:, columns] if draw(st.booleans()) else pool[rows, draw(st.integers(0, 6))]
    return taken + taken.dtype.type(draw(st.sampled_from([0, 0, 0, 1]))) if taken.dtype != bool else taken


@given(models(), models())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_any_model_can_be_patched_to_any_other(a, b):
    check(a, b)
    assert exact(from_data(loads(dumps(to_data(a)).encode(), "text")), a)


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_any_deletion_is_found_from_the_arrays(data):
    flow = analyse(FROM)
    free = [final for group in groups(FROM) if not group.pinned for final in group.ids.tolist()]
    dead = flow.solution.none_dead()
    dead[
        data.draw(st.lists(st.sampled_from(free), max_size=len(free) - 1, unique=True).filter(lambda ids: 0 not in ids))
    ] = True
    smaller = delete(FROM, flow, dead)
    difference = check(FROM, smaller)
    assert stored(difference) == 0
    expected = np.flatnonzero(dead[flow.solution.resolve(flow.producer("a").axis)].any(axis=0)).tolist()
    found = difference.pick(difference.channels["a"]).lost.tolist() if "a" in difference.channels else []
    assert found == expected


# --- other models and files


def test_patching_another_model_raises_and_names_the_way_out():
    other = residual(b=(FROM.weights["b"][0] + 1, FROM.weights["b"][1]))
    with pytest.raises(OtherModel, match=r"the weights of 'net' differ\. To apply it anyway"):
        patch(other, diff(FROM, TO))
    with pytest.raises(OtherModel, match="the config and the weights of 'net' differ"):
        patch(TO, diff(FROM, TO))


def test_the_difference_of_a_pruned_model_prunes_a_fine_tuned_copy():
    tuned = Snapshot(FROM.record, {path: tuple(a * 2 for a in arrays) for path, arrays in FROM.weights.items()})
    pruned = patch(tuned, diff(FROM, TO), check=False)
    assert exact(pruned, DeleteChannels("a", [0, 5, 6])(tuned))


@pytest.mark.parametrize(
    "other, words",
    [
        (chain("b", "c"), "layer 'b' does not have all of the places /config/units"),
        (TO, "is for an axis with 8 positions; this model has 5"),
        (snapshot(FROM.record), "an array that the model does not have"),
        (
            Snapshot(set_all(FROM.record, {("config", "layers", 1, "build_config"): None}), FROM.weights),
            "layer 'a' does not have all of the places /build_config",
        ),
    ],
)
def test_a_difference_that_does_not_fit_gives_the_reason(other, words):
    target = TO if other.record["config"]["layers"][1].get("build_config", 1) is not None else None
    difference = diff(
        FROM, target or Snapshot(set_in(FROM.record, ("config", "layers", 1, "build_config", "input_shape", 0), 1), {})
    )
    with pytest.raises(OtherModel, match=words):
        patch(other, difference, check=False)


def test_two_layers_of_the_same_name_raise():
    record = json.loads(json.dumps(chain("a", "b").record))
    record["config"]["layers"][2]["config"]["name"] = "a"
    with pytest.raises(BrokenSnapshot, match="have the same name"):
        diff(Snapshot(record, {}), FROM)


def test_a_saved_difference_has_its_arrays_in_a_second_file(tmp_path):
    tuned = residual(b=(FROM.weights["b"][0] * 2, FROM.weights["b"][1]))
    save_diff(diff(FROM, tuned), tmp_path / "tuned.json")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tuned.json", "tuned.json.npz"]
    first = (tmp_path / "tuned.json").read_bytes(), (tmp_path / "tuned.json.npz").read_bytes()
    assert exact(patch(FROM, load_diff(tmp_path / "tuned.json")), tuned)
    save_diff(diff(FROM, tuned), tmp_path / "tuned.json")
    assert first == ((tmp_path / "tuned.json").read_bytes(), (tmp_path / "tuned.json.npz").read_bytes())
    save_diff(diff(FROM, TO), tmp_path / "tuned.json")
    assert [file.name for file in tmp_path.iterdir()] == ["tuned.json"]
    assert load_diff(tmp_path / "tuned.json") == diff(FROM, TO)


def test_a_missing_or_broken_file_of_arrays_raises(tmp_path):
    path = tmp_path / "tuned.json"
    tuned = residual(b=(FROM.weights["b"][0] * 2, FROM.weights["b"][1]))
    save_diff(diff(FROM, tuned), path)
    arrays = tmp_path / "tuned.json.npz"
    whole = arrays.read_bytes()
    with pytest.raises(BadDocument, match="raise max_bytes"):
        load_diff(path, max_bytes=20)
    for content, words in [(whole[:100], "not a file of arrays"), (b"", "not a file of arrays")]:
        arrays.write_bytes(content)
        with pytest.raises(BadDocument, match=words):
            load_diff(path)
    np.savez(arrays, array_0=np.array([{"a": 1}], object))
    with pytest.raises(BadDocument, match="not a file of arrays"):
        load_diff(path)
    np.savez(arrays, array_0=np.zeros(3, "uint8"))
    with pytest.raises(BadDocument, match="bytes, not 3"):
        load_diff(path)
    arrays.unlink()
    with pytest.raises(BadDocument, match="no array 'array_0'"):
        load_diff(path)


def test_a_document_of_another_kind_raises():
    with pytest.raises(BadDocument, match=r"\$\.format"):
        decode_diff({"format": "kerassurgery_fn/plan", "version": 1, "plan": {}})
    broken = encode_diff(diff(FROM, TO))
    broken["diff"]["weights"]["a"] = [["x"]]
    with pytest.raises(BadDocument, match=r"\$\.diff\.weights\.a\[0\]"):
        decode_diff(broken)


def test_positions_that_do_not_fit_their_axis_raise():
    with pytest.raises(BadDocument, match="has bits for 8 positions instead of 20"):
        _ = Picks(20, "YQ==").positions
    with pytest.raises(BadDocument, match="not a list of positions"):
        _ = Picks(8, "?").positions


def test_the_published_schema_is_up_to_date():
    assert DIFF.path.read_text(encoding="utf-8") == published(DIFF), (
        "run `python -m kerassurgery_fn.differences.publish_schemas`"
    )


def test_the_repr_of_a_difference_is_one_line():
    assert len(repr(diff(FROM, TO)).splitlines()) == 1
    assert Diff(("", "")) == Diff(("", ""))


# --- sabotage: every field of a difference is needed


@pytest.mark.parametrize("field", ["changed", "weights", "picks"])
def test_a_difference_without_one_of_its_fields_gives_another_model(field):
    import dataclasses

    difference = dataclasses.replace(diff(FROM, TO), **{field: type(getattr(diff(FROM, TO), field))()})
    with pytest.raises(OtherModel):
        patch(FROM, difference)
    try:
        assert not exact(patch(FROM, difference, check=False), TO)
    except OtherModel:
        assert field == "picks"


def test_a_layer_that_gained_or_lost_its_bias():
    def net(bias):
        dense = layer("Dense", "a", units=8, use_bias=bias)
        record = functional("net", {"x": (None, 4)}, call(dense, "x"), outputs="a")
        return snapshot(record, {"a": (numbers(4, 8) + bias, *[numbers(8)] * bias)})

    for a, b in [(net(False), net(True)), (net(True), net(False))]:
        assert patch(a, diff(a, b)) == b
