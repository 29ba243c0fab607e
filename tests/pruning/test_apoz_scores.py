"""Criteria on arrays, and the views of the channels of a layer; without Keras."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helpers.records import call, constant, functional, layer, operation, sequential, snapshot
from kerassurgery_fn import SurgeryError, analyse
from kerassurgery_fn.graph import Ref
from kerassurgery_fn.pruning.activation_views import View, address, nonlinear, starts, views
from kerassurgery_fn.pruning.apoz_scores import ZeroCounts, count_zeros, high_apoz
from kerassurgery_fn.pruning.channel_statistics import at_starts, largest

# --- counting


@given(
    arrays.arrays(np.int8, arrays.array_shapes(min_dims=1, max_dims=4), elements=st.integers(-1, 1)),
    st.integers(0, 3),
)
def test_apoz_is_the_fraction_of_zeros_over_all_other_axes(activations, axis):
    axis %= activations.ndim
    others = tuple(i for i in range(activations.ndim) if i != axis)
    assert np.array_equal(count_zeros(activations, axis).apoz, (activations == 0).mean(axis=others))


@given(st.integers(0, 10))
def test_counts_of_batches_add_up(cut):
    activations = np.random.default_rng(0).integers(-1, 2, (10, 3, 4))
    parts, whole = count_zeros(activations[:cut]) + count_zeros(activations[cut:]), count_zeros(activations)
    assert np.array_equal(parts.zeros, whole.zeros)
    assert np.array_equal(parts.values, whole.values)


def test_only_exact_zeros_count():
    activations = np.array([[0.0, -0.0, 1e-30, np.nan]], np.float32)
    assert count_zeros(activations).apoz.tolist() == [1, 1, 0, 0]


def test_apoz_without_values_is_nan():
    assert np.isnan(count_zeros(np.zeros((0, 3))).apoz).all()


def test_apoz_is_float64_for_any_dtype_of_activations():
    assert count_zeros(np.zeros((2, 3), np.float16)).apoz.dtype == np.float64


def test_fewest_takes_the_branch_with_the_lowest_apoz_for_each_channel():
    silent, loud = count_zeros(np.array([[0, 0, 0]] * 7)), count_zeros(np.array([[0, 1, 0], [1, 1, 0]]))

    def fewest(counts):
        return largest(counts, lambda count: -count.apoz)

    assert fewest([silent, loud]).apoz.tolist() == [0.5, 0, 1]
    assert fewest([loud, silent]).apoz.tolist() == [0.5, 0, 1]
    assert fewest([silent]).values.tolist() == [7, 7, 7]


def test_counts_of_channels_that_occur_several_times_are_added_up():
    flat = count_zeros(np.array([[0, 1, 0, 0]]))
    assert at_starts(flat, [0, 2], 2).apoz.tolist() == [1, 0.5]
    assert at_starts(flat, [1], 3).apoz.tolist() == [0, 1, 1]


# --- choosing


@pytest.mark.parametrize(
    "apoz, method, expected",
    [
        ([0.1, 0.2, 0.1, 0.9], "std", [3]),
        ([0.1, 0.2, 0.1, 0.9], "absolute", []),
        ([0.1, 0.2, 0.99, 1.0], "absolute", [2, 3]),
        ([0.1, 0.2, 0.1, 0.9], "both", [3]),
        ([0.98, 0.99, 0.99, 1.0], "both", [1, 2, 3]),
        ([0.0, 1.0, 1.0], "std", [1, 2]),  # mean + deviation is beyond 1, and counts as 1
        ([], "std", []),
    ],
)
def test_high_apoz(apoz, method, expected):
    assert high_apoz(apoz, method).tolist() == expected


@pytest.mark.parametrize("value", [0, 0.1, 0.3, 0.99, 1])
def test_equal_channels_do_not_reach_the_std_cutoff(value):
    assert high_apoz([value] * 7).tolist() == []


def test_channels_of_zeros_reach_the_absolute_cutoff():
    assert high_apoz([1.0, 1.0], "both").tolist() == [0, 1]


def test_cutoffs_can_be_set():
    apoz = [0.1, 0.2, 0.3, 0.6]
    assert high_apoz(apoz, "absolute", cutoff_absolute=0.3).tolist() == [2, 3]
    assert high_apoz(apoz, "std", cutoff_std=-0.2).tolist() == [2, 3]
    assert high_apoz([0.5, 1.0], "absolute", cutoff_absolute=1.7).tolist() == [1]


@given(arrays.arrays(int, st.integers(2, 20), elements=st.integers(0, 5000)), st.floats(0.01, 3))
def test_the_std_cutoff_never_selects_all_channels(zeros, deviations):
    assert len(high_apoz(zeros / 5000, "std", deviations)) < len(zeros)


def test_an_unknown_method_raises():
    with pytest.raises(SurgeryError, match=r"'median'.*std, absolute, both"):
        high_apoz([0.1], "median")


# --- what is nonlinear


@pytest.mark.parametrize(
    "record, expected",
    [
        (layer("Dense", "a", units=1), False),
        (layer("Dense", "a", units=1, activation="relu"), True),
        (layer("Dense", "a", units=1, activation={"class_name": "function", "config": "mine"}), True),
        (layer("Activation", "a", activation="linear"), False),
        (layer("Activation", "a", activation="swish"), True),
        (layer("ReLU", "a"), True),
        (layer("PReLU", "a"), True),
        (layer("LeakyReLU", "a"), True),
        (layer("Softmax", "a"), True),
        (layer("LSTM", "a", units=1), True),
        (layer("LSTM", "a", units=1, activation="linear"), True),  # its gates are not linear
        (layer("SimpleRNN", "a", units=1, activation="linear"), False),
        (layer("RNN", "a", cell=layer("GRUCell", "b", units=1)), True),
        (layer("Bidirectional", "a", layer=layer("LSTM", "b", units=1), merge_mode="concat"), True),
        (layer("Block", "a", module="mine", registered_name="mine>Block", activation="relu"), False),
        (layer("BatchNormalization", "a"), False),
        (layer("TimeDistributed", "a", layer=layer("Dense", "b", units=1, activation="relu")), True),
        (layer("TimeDistributed", "a", layer=layer("Dense", "b", units=1)), False),
        (operation("Relu", "a", module="keras.src.ops.nn"), True),
        (operation("LogSoftmax", "a", module="keras.src.ops.nn"), True),
        (operation("Tanh", "a"), True),
        (operation("Add", "a"), False),
    ],
    ids=lambda value: value["class_name"] if isinstance(value, dict) else "",
)
def test_nonlinear(record, expected):
    assert nonlinear(record) is expected


# --- views


def test_starts_needs_all_channels_in_order():
    channels = np.array([[7, 8, 9]])
    assert starts(np.array([[7, 8, 9, 1, 7, 8, 9]]), channels) == (0, 4)
    assert starts(np.array([[7, 9, 8]]), channels) == ()
    assert starts(np.array([[7, 8]]), channels) == ()
    assert starts(np.array([[7, 8, 9], [1, 1, 1]]), channels) == ()
    assert starts(3, channels) == starts(None, channels) == ()


def conv(name, filters=4, **config):
    return layer("Conv2D", name, filters=filters, kernel_size=[1, 1], **config)


def relu(name):
    return layer("ReLU", name)


def norm(name):
    return layer("BatchNormalization", name)


def viewed(record, name):
    """For each call of a layer, the names of the tensors with a view of its channels."""
    flow = analyse(snapshot(record))
    return [{view.tensor.path for view in call_views} for call_views in views(flow, flow.producer(name))]


def graph(*calls, outputs, shape=(None, 4, 4, 3)):
    return functional("net", {"x": shape}, *calls, outputs=outputs)


def test_a_layers_own_activation():
    net = sequential("net", (None, 4, 4, 3), conv("a", activation="relu"), relu("later"))
    assert viewed(net, "a") == [{"a"}]


def test_through_normalisation_pooling_and_dropout_to_the_first_activation():
    net = sequential(
        "net", (None, 4, 4, 3), conv("a"), norm("bn"), layer("MaxPooling2D", "pool"), layer("Dropout", "drop"),
        layer("Activation", "linear", activation="linear"), relu("first"), relu("second"), conv("b"),
    )  # fmt: skip
    assert viewed(net, "a") == [{"first"}]
    assert viewed(net, "b") == [{"b"}]


def test_another_kernel_ends_the_walk():
    net = sequential("net", (None, 4, 4, 3), conv("a"), norm("bn"), conv("b"), relu("after_b"), conv("c"))
    assert viewed(net, "a") == [{"a"}]
    assert viewed(net, "b") == [{"after_b"}]


def test_another_kernel_with_tied_channels_ends_the_walk():
    net = graph(
        call(conv("a"), "x"),
        call(conv("b"), "a"),
        call(relu("after_b"), "b"),
        call(layer("Add", "sum"), ["a", "after_b"]),
        call(relu("end"), "sum"),
        outputs="end",
    )
    assert viewed(net, "a") == [{"a", "end"}]


@pytest.mark.parametrize("operands", [["a", "b"], ["b", "a"]])
def test_through_a_sum_from_either_side(operands):
    net = graph(
        call(conv("a"), "x"),
        call(conv("b"), "x"),
        call(layer("Add", "sum"), operands),
        call(relu("end"), "sum"),
        outputs="end",
    )
    assert viewed(net, "a") == viewed(net, "b") == [{"end"}]


@pytest.mark.parametrize("first", ["a", constant([1, 2, 3, 4])], ids=["tensor first", "constant first"])
def test_through_an_operation_with_a_constant(first):
    second = constant([1, 2, 3, 4]) if first == "a" else "a"
    net = graph(
        call(conv("a"), "x"),
        call(operation("Multiply", "times"), first, second, out=(None, 4, 4, 4)),
        call(relu("end"), "times"),
        outputs="end",
    )
    assert viewed(net, "a") == [{"end"}]


def test_the_activation_of_every_branch_is_a_view():
    net = graph(
        call(conv("a"), "x"),
        call(norm("bn"), "a"),
        call(relu("left"), "bn"),
        call(layer("Activation", "right", activation="tanh"), "bn"),
        call(layer("Add", "sum"), ["left", "right"]),
        outputs="sum",
    )
    assert viewed(net, "a") == [{"left", "right"}]


def test_a_branch_that_reads_the_linear_values_adds_the_layers_own_output():
    net = graph(
        call(conv("a"), "x"),
        call(norm("bn"), "a"),
        call(relu("left"), "bn"),
        call(conv("b"), "bn"),
        call(layer("Add", "sum"), ["left", "b"]),
        outputs="sum",
    )
    assert viewed(net, "a") == [{"left", "a"}]


def test_an_output_of_the_model_reads_the_linear_values():
    net = graph(call(conv("a"), "x"), call(norm("bn"), "a"), call(relu("end"), "bn"), outputs=["bn", "end"])
    assert viewed(net, "a") == [{"end", "a"}]
    assert viewed(graph(call(conv("a"), "x"), outputs="a"), "a") == [{"a"}]


def test_a_residual_stream_has_a_view_at_every_activation():
    net = graph(
        call(conv("a"), "x"),
        call(relu("first"), "a"),
        call(conv("b"), "first"),
        call(layer("Add", "sum"), ["a", "b"]),
        call(relu("last"), "sum"),
        outputs="last",
    )
    assert viewed(net, "a") == [{"first", "last"}]
    assert viewed(net, "b") == [{"last"}]


def test_a_view_of_concatenated_channels_has_their_start():
    net = graph(
        call(conv("a", 2), "x"),
        call(conv("b", 3), "x"),
        call(layer("Concatenate", "join"), ["a", "b"]),
        call(norm("bn"), "join"),
        call(relu("end"), "bn"),
        outputs="end",
    )
    flow = analyse(snapshot(net))
    assert views(flow, flow.producer("a")) == [[View(Ref("end", (0,), 0), 3, (0,))]]
    assert views(flow, flow.producer("b")) == [[View(Ref("end", (0,), 0), 3, (2,))]]


def test_tied_channels_have_different_starts_in_a_concatenation():
    net = graph(
        call(conv("a", 2), "x"),
        call(conv("b", 2), "x"),
        call(layer("Add", "sum"), ["a", "b"]),
        call(layer("Concatenate", "join"), ["a", "b"]),
        call(relu("end"), "join"),
        call(relu("end_of_sum"), "sum"),
        outputs=["end", "end_of_sum"],
    )
    flow = analyse(snapshot(net))
    at_join = [
        [view for view in call_views if view.tensor.path == "end"] for call_views in views(flow, flow.producer("b"))
    ]
    assert at_join == [[View(Ref("end", (0,), 0), 3, (2,))]]


def test_flattened_channels_have_several_starts():
    net = sequential("net", (None, 2, 2, 3), conv("a", 3), layer("Flatten", "flat"), relu("end"))
    flow = analyse(snapshot(net))
    assert views(flow, flow.producer("a")) == [[View(Ref("end", (0,), 0), 1, (0, 3, 6, 9))]]


def test_a_shared_layer_has_views_for_each_call():
    net = graph(
        call(conv("a"), "x"),
        call(relu("one"), "a"),
        call("a", "x"),
        call(relu("two"), ("a", 1, 0)),
        call(layer("Add", "sum"), ["one", "two"]),
        outputs="sum",
    )
    assert viewed(net, "a") == [{"one"}, {"two"}]


def test_the_walk_ends_at_a_layer_that_is_called_on_its_own_output():
    net = graph(
        call(conv("a", 3), "x"),
        call("a", "a"),
        call(relu("end"), ("a", 1, 0)),
        outputs="end",
    )
    flow = analyse(snapshot(net))
    first, second = views(flow, flow.producer("a"))
    assert first == [View(Ref("a", (0,), 0), 3, (0,))]
    assert second == [View(Ref("end", (0,), 0), 3, (0,))]


def test_an_unknown_layer_ends_the_walk():
    net = graph(
        call(conv("a"), "x"),
        call(layer("Mystery", "what", module="mine", registered_name="p>Mystery"), "a", out=(None, 4, 4, 4)),
        call(relu("end"), "what"),
        outputs="end",
    )
    assert viewed(net, "a") == [{"a"}]


def test_the_address_of_the_first_kind_is_the_path():
    flow = analyse(snapshot(graph(call(conv("a"), "x"), outputs="a")))
    assert [address(flow, producer) for producer in flow.producers.values()] == ["a"]


def test_the_repr_of_counts():
    assert repr(ZeroCounts(np.array([1]), np.array([2]))) == "ZeroCounts(zeros=array([1]), values=array([2]))"
