"""What goes together: groups on models written by hand, and the round trip to deletions on live ones."""

from pathlib import Path

import numpy as np
import pytest

from helpers.records import call, constant, functional, layer, operation, sequential, snapshot
from kerassurgery_fn import DeleteChannels, analyse, groups
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.channels import FIXED
from kerassurgery_fn.edits.steps.channel_deletion import ids_of_selections, selections
from kerassurgery_fn.errors import ChannelOutOfRange, NoChannels

README = Path(__file__).parents[2] / "README.md"
IMAGE = (None, 6, 6, 3)


def conv(name, filters, size=1, **config):
    return layer("Conv2D", name, filters=filters, kernel_size=[size, size], **config)


def chain():
    return sequential("net", (None, 5), layer("Dense", "a", units=4), layer("Dense", "b", units=2))


def residual():
    """Two convolutions whose sum goes through a third; the output reads all of it."""
    return functional(
        "net", {"x": IMAGE},
        call(conv("a", 4), "x"),
        call(conv("b", 4), "a"),
        call(layer("Add", "sum"), ["a", "b"]),
        call(conv("c", 2), "sum"),
        outputs="c",
    )  # fmt: skip


def half_joined():
    """A convolution of six channels to whose first four another one is added, by way of a concatenation."""
    return functional(
        "net", {"x": IMAGE},
        call(conv("wide", 6), "x"),
        call(conv("p", 4), "x"),
        call(conv("q", 2), "x"),
        call(layer("Concatenate", "pq"), ["p", "q"]),
        call(layer("ReLU", "relu"), "wide"),
        call(layer("Add", "sum"), ["relu", "pq"]),
        call(conv("out", 2), "sum"),
        outputs="out",
    )  # fmt: skip


def half_twice():
    """A dense layer that reads the first half of another's channels twice."""
    return functional(
        "net", {"x": (None, 5)},
        call(layer("Dense", "a", units=4), "x"),
        call(operation("Split", "half", indices_or_sections=2, axis=-1), "a", out=[(None, 2), (None, 2)]),
        call(layer("Concatenate", "more"), ["a", ("half", 0, 0)]),
        call(layer("Dense", "out", units=2), "more"),
        outputs="out",
    )  # fmt: skip


def flattened():
    return sequential(
        "net", (None, 2, 2, 3), conv("a", 3), layer("Flatten", "flat"), layer("Dense", "out", units=2)
    )  # fmt: skip


def grouped():
    return sequential("net", IMAGE, conv("a", 8), conv("g", 12, groups=4), conv("out", 2))


def made_by(record):
    """The group, or the groups, of each layer: address -> lists of positions."""
    return [{address: p.tolist() for address, p in group.made.items()} for group in groups(snapshot(record))]


def carriers(group):
    return {(c.path, c.slot, c.name, c.axis): c.positions.tolist() for c in group.carried}


# --- members


def test_a_chain_has_a_group_a_layer():
    a, b = groups(snapshot(chain()))
    rows = [[0], [1], [2], [3]]
    assert carriers(a) == {("a", 0, "kernel", 1): rows, ("a", 1, "bias", 0): rows, ("b", 0, "kernel", 0): rows}
    assert (a.pinned, a.output_only, a.reasons) == (False, False, ())
    assert carriers(b) == {("b", 0, "kernel", 1): [[0], [1]], ("b", 1, "bias", 0): [[0], [1]]}
    assert (b.pinned, b.output_only, b.reasons) == (True, True, ("it is an output of the model, computed by 'b'",))


def test_a_sum_joins_its_layers_channel_by_channel():
    rows = [[0], [1], [2], [3]]
    assert made_by(residual()) == [{"a": rows, "b": rows}, {"c": [[0], [1]]}]


def test_members_that_share_part_of_their_channels_are_aligned():
    first, second, _ = made_by(half_joined())
    assert first == {"wide": [[0], [1], [2], [3]], "p": [[0], [1], [2], [3]]}
    assert second == {"wide": [[4], [5]], "q": [[0], [1]]}


def test_a_flattened_channel_has_several_positions():
    group, _ = groups(snapshot(flattened()))
    assert carriers(group)["out", 0, "kernel", 0] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert carriers(group)["a", 0, "kernel", 3] == [[0], [1], [2]]


def test_channels_repeated_in_an_axis_are_a_separate_group():
    twice, once, _ = groups(snapshot(half_twice()))
    assert carriers(twice)["out", 0, "kernel", 0] == [[0, 4], [1, 5]]
    assert carriers(once)["out", 0, "kernel", 0] == [[2], [3]]


def test_the_lines_of_a_grid_are_groups():
    whole, places_in, places_out, _ = groups(snapshot(grouped()))
    assert {a: p.tolist() for a, p in whole.made.items()} == {
        "a": [[0, 1], [2, 3], [4, 5], [6, 7]],
        "g": [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]],
    }
    assert {a: p.tolist() for a, p in places_in.made.items()} == {"a": [[0, 2, 4, 6], [1, 3, 5, 7]]}
    assert {a: p.tolist() for a, p in places_out.made.items()} == {"g": [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]}
    assert carriers(places_in)["g", 0, "kernel", 2] == [[0], [1]]


def test_channels_pinned_by_an_output_are_a_separate_group():
    record = functional(
        "net", {"x": (None, 3)},
        call(layer("Dense", "a", units=4), "x"),
        call(layer("Dense", "b", units=2), "x"),
        call(layer("Concatenate", "ab"), ["a", "b"]),
        call(layer("Dense", "top", units=1), "ab"),
        outputs=["top", "b"],
    )  # fmt: skip
    assert [(list(g.made), g.pinned) for g in groups(snapshot(record))] == [
        (["a"], False), (["b"], True), (["top"], True),
    ]  # fmt: skip


def halves(*calls, outputs):
    return functional(
        "net", {"x": (None, 5)},
        call(layer("Dense", "a", units=4), "x"),
        call(operation("Split", "half", indices_or_sections=2, axis=-1), "a", out=[(None, 2), (None, 2)]),
        *calls,
        outputs=outputs,
    )  # fmt: skip


def test_channels_pinned_for_different_reasons_are_separate_groups():
    pinned, free, _ = groups(snapshot(halves(
        call(layer("Dense", "out", units=2), "a"), outputs=["out", ("half", 0, 0)]
    )))  # fmt: skip
    assert (pinned.made["a"].tolist(), pinned.pinned) == ([[0], [1]], True)
    assert (free.made["a"].tolist(), free.pinned) == ([[2], [3]], False)


def test_inexact_channels_are_a_separate_group():
    inexact, exact, _ = groups(snapshot(halves(
        call(layer("Softmax", "soft"), ("half", 0, 0)),
        call(layer("Concatenate", "both"), ["soft", ("half", 0, 1)]),
        call(layer("Dense", "out", units=2), "both"),
        outputs="out",
    )))  # fmt: skip
    assert (inexact.made["a"].tolist(), inexact.inexact) == ([[0], [1]], ("'soft' normalises over the channels",))
    assert (exact.made["a"].tolist(), exact.inexact) == ([[2], [3]], ())


def test_an_output_is_not_all_that_pins_where_an_opaque_layer_reads_it_too():
    odd = layer("Identity", "odd", module="mine", registered_name="mine>Odd")
    record = functional(
        "net", {"x": (None, 5)},
        call(layer("Dense", "a", units=4), "x"),
        call(odd, "a", out=(None, 4)),
        outputs=["a", "odd"],
    )  # fmt: skip
    (group,) = groups(snapshot(record))
    assert (group.pinned, group.output_only, len(group.reasons)) == (True, False, 2)


def test_inputs_of_an_opaque_layer_have_their_own_reason():
    record = sequential(
        "net", (None, 5), layer("Dense", "a", units=4),
        layer("Identity", "odd", module="mine", registered_name="mine>Odd"), layer("Dense", "b", units=2),
    )  # fmt: skip
    first = groups(snapshot(record))[0]
    assert (list(first.made), first.output_only) == (["a"], False)
    assert "mine>Odd" in first.reasons[0]


def test_normalising_over_channels_is_inexact():
    record = sequential(
        "net", (None, 5), layer("Dense", "a", units=4), layer("Softmax", "soft"), layer("Dense", "b", units=2)
    )
    a, b = groups(snapshot(record))
    assert (a.inexact, b.inexact) == (("'soft' normalises over the channels",), ())


def test_channels_of_a_constant_have_no_producer():
    record = functional(
        "net", {"x": (None, 3)},
        call(operation("Matmul", "m"), "x", constant(np.ones((3, 4))), out=(None, 4)),
        call(layer("Dense", "top", units=2), "m"),
        outputs="top",
    )  # fmt: skip
    group = next(g for g in groups(snapshot(record)) if not g.made)
    assert carriers(group) == {("top", 0, "kernel", 0): [[0], [1], [2], [3]]}
    with pytest.raises(NoChannels, match="no layer creates the 4 channels"):
        group.channels([0])


# --- naming channels


def test_channels_are_named_in_every_producer():
    group = groups(snapshot(half_joined()))[1]
    assert group.channels([-1]) == {"wide": (5,), "q": (1,)}
    assert group.channels(np.array([True, False])) == group.channels([0, 0]) == {"wide": (4,), "q": (0,)}
    assert group.channels([]) == {"wide": (), "q": ()}


@pytest.mark.parametrize("wanted", [[2], [-3], [0, 7], np.array([True, False, True])], ids=str)
def test_a_channel_beyond_the_group_is_refused(wanted):
    with pytest.raises(ChannelOutOfRange, match="the group has 2 channels"):
        groups(snapshot(half_joined()))[1].channels(wanted)


def test_a_second_kind_of_channels_has_its_address():
    record = functional(
        "net", {"x": (None, 5, 6)},
        call(layer("Dense", "a", units=6), "x"),
        call(
            layer("EinsumDense", "e", equation="abc,cde->abde", output_shape=[None, 3, 4], bias_axes=None,
                  activation="linear"),
            "a", out=(None, 5, 3, 4),
        ),
        call(layer("Dense", "top", units=2), "e", out=(None, 5, 3, 2)),
        outputs="top",
    )  # fmt: skip
    flow = analyse(snapshot(record))
    for group in groups_of(flow)[1:3]:
        (address,) = group.made
        assert flow.solution.resolve(flow.producer(address).axis).tolist() == [group.ids.tolist()]
    assert [list(g.made) for g in groups_of(flow)[:3]] == [["a"], ["e"], ["e:e"]]


# --- printing


def test_a_carrier_prints_its_weight_and_axis():
    first, _ = groups(snapshot(flattened()))
    assert repr(first.carried[0]) == "<a kernel, axis 3: 3 channels>"
    assert repr(first.carried[-1]) == "<out kernel, axis 0: 3 channels of 4 positions>"


def test_a_group_prints_as_a_line():
    both, _ = groups(snapshot(residual()))
    assert repr(both) == "4 channels: a + b, 6 weight axes, free"
    part = groups(snapshot(half_joined()))[0]
    assert repr(part) == "4 channels: wide (4 of 6) + p, 5 weight axes, free"
    lines = groups(snapshot(grouped()))[0]
    assert repr(lines) == "4 lines: a (2 each) + g (3 each), 5 weight axes, free"


def test_groups_print_one_a_line():
    assert repr(groups(snapshot(chain()))) == (
        "2 groups, 1 of them free with 4 channels\n"
        "4 channels: a, 3 weight axes, free\n"
        "2 channels: b, 2 weight axes, pinned by an output: it is an output of the model, computed by 'b'"
    )


# --- laws: the groups are a partition, and a deletion spelled by a group is that of its channels


def check_partition(flow):
    """Every position that a layer makes or a weight carries is in the groups as often as it has ids."""
    found = groups_of(flow)
    ids = np.concatenate([group.ids for group in found])
    assert len(ids) == len(np.unique(ids)), "a channel is in two groups"
    for path, weights in flow.weights.items():
        for slot, weight in enumerate(weights):
            for number, axis in enumerate(weight.axes):
                if isinstance(axis, np.ndarray):
                    check_axis(flow, axis, [
                        (group.ids, c.positions) for group in found for c in group.carried
                        if c[:2] == (path, slot) and c.axis == number
                    ])  # fmt: skip
    for producer in flow.producers.values():
        check_axis(flow, producer.axis, [
            (group.ids, p) for group in found for address, p in group.made.items() if flow.producer(address) is producer
        ])  # fmt: skip


def check_axis(flow, axis, members):
    resolved = flow.solution.resolve(axis)
    expected = {(one, at) for row in resolved.tolist() for at, one in enumerate(row) if one != FIXED}
    found = [(one, at) for ids, rows in members for one, row in zip(ids.tolist(), rows, strict=True) for at in row]
    assert len(found) == len(expected)
    assert set(found) == expected


def check_deletion(flow, seed=0):
    """For one channel of each group, and for some of each, just these ids die."""
    rng = np.random.default_rng(seed)
    for group in groups_of(flow):
        if len(group) < 2 or not group.made:
            continue
        for count in {1, rng.integers(1, len(group))}:
            wanted = rng.choice(len(group), count, replace=False)
            channels = DeleteChannels(group.channels(wanted)).channels
            dead = ids_of_selections(flow, selections(flow, channels))
            assert np.flatnonzero(dead).tolist() == sorted(group.ids[wanted].tolist()), group


RECORDS = [chain, residual, half_joined, half_twice, flattened, grouped]


@pytest.mark.parametrize("record", RECORDS)
def test_groups_are_a_partition(record):
    check_partition(analyse(snapshot(record())))


@pytest.mark.parametrize("record", RECORDS)
def test_a_deletion_by_a_group_is_that_of_its_channels(record):
    for seed in range(5):
        check_deletion(analyse(snapshot(record())), seed)


@pytest.mark.keras
def test_groups_of_keras_models():
    from helpers.table_of_models import SMALL_MODELS, small_model
    from kerassurgery_fn import capture

    for name in [*SMALL_MODELS][::4]:
        flow = analyse(capture(small_model(name)))
        try:
            check_partition(flow)
            check_deletion(flow)
        except AssertionError as error:
            raise AssertionError(f"the model {name!r}") from error


@pytest.mark.keras
def test_the_readme_shows_the_groups_of_resnet():
    from helpers.networks import application
    from kerassurgery_fn import capture

    found = groups(capture(application("ResNet50")))
    shown = README.read_text(encoding="utf-8")
    assert all(line in shown for line in repr(found).splitlines()[:5])
    assert repr(found[-1]).partition(", inexact")[0] in shown
    assert list(found[3].channels([0, 7]).values()) == [(0, 7)] * 4
