"""Rows for the values of integer inputs: vocabularies that get fewer words, more words, or words in another order."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_purity, check_rebuilt_record, compute, deviation, randomise, sabotage
from helpers.records import call, functional, layer, numbers
from helpers.running import captured
from kerassurgery_fn import DeleteChannels, KeepChannels, Plan, ReorderChannels, WidenChannels
from kerassurgery_fn.errors import CannotWiden, ChannelOutOfRange, NoChannels, PinnedChannels
from kerassurgery_fn.values.snapshot import Snapshot

ALLOWED = {"allow_input_change": True}

# --- pictures, without Keras


def words(rows=(0, 1, 2, 3), mask=False, more=None):
    """One table of vectors, or two that read the same tokens."""
    calls = [call(layer("Embedding", "a", input_dim=len(rows), output_dim=2, mask_zero=mask), "x", out=(None, 5, 2))]
    weights = {"a": (numbers(rows, 2),)}
    if more is not None:
        table = layer("Embedding", "b", input_dim=len(more), output_dim=2, mask_zero=False)
        calls += [call(table, "x", out=(None, 5, 2)), call(layer("Concatenate", "both"), ["a", "b"])]
        weights["b"] = (numbers(more, 2),)
    return Snapshot(functional("words", {"x": (None, 5)}, *calls, outputs="a" if more is None else "both"), weights)


PICTURES = {
    "a word less": (DeleteChannels("a", input_dim=[1], **ALLOWED), words(), words([0, 2, 3])),
    "by address": (DeleteChannels({"a:input_dim": [1, -1]}, **ALLOWED), words(), words([0, 2])),
    "of all embeddings": (DeleteChannels("*@Embedding:input_dim", [1], **ALLOWED), words(), words([0, 2, 3])),
    "some that stay": (KeepChannels("a", input_dim=[3, 1], **ALLOWED), words(), words([1, 3])),
    "another order": (ReorderChannels("a", input_dim=[2, 1, 0, 3], **ALLOWED), words(), words([2, 1, 0, 3])),
    "more, like others": (WidenChannels("a", input_dim=6, fill=[3, 0], **ALLOWED), words(), words([0, 1, 2, 3, 3, 0])),
    "more and fewer": (
        Plan(WidenChannels("a", input_dim=6, **ALLOWED), DeleteChannels("a", input_dim=[4, 5], **ALLOWED)),
        words(), words(),
    ),
    "all but the one that is masked": (
        DeleteChannels("a", input_dim=[1, 2, 3], **ALLOWED), words(mask=True), words([0], mask=True),
    ),
    "of two that read the same": (
        DeleteChannels("b", input_dim=[1], **ALLOWED), words(more=(0, 1, 2, 3)), words([0, 2, 3], more=[0, 2, 3]),
    ),
    "of two of different lengths": (
        DeleteChannels("a", input_dim=[1], **ALLOWED), words(more=(0, 1, 2)), words([0, 2, 3], more=[0, 2]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    assert check_purity(before, edit) == after


def test_new_words_are_the_mean_of_all():
    table = words().weights["a"][0]
    wider = WidenChannels("a", input_dim=5, **ALLOWED)(words()).weights["a"][0]
    assert (wider[:4] == table).all()
    assert np.allclose(wider[4], table.mean(axis=0))


REFUSED = {
    "without leave": (
        DeleteChannels("a", input_dim=[1]), words(), PinnedChannels,
        "'a' .* has a row for each value of its input.*Pass allow_input_change=True",
    ),
    "the one that is masked": (
        DeleteChannels("a", input_dim=[0], **ALLOWED), words(mask=True), PinnedChannels, "'a' .* masks the first value",
    ),
    "none that is there": (DeleteChannels("a", input_dim=[4], **ALLOWED), words(), ChannelOutOfRange, "4 channels"),
    "no rows": (DeleteChannels("both", input_dim=[0], **ALLOWED), words(more=(0, 1)), NoChannels, "'both'"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_edit_is_refused_with_a_reason(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


# --- against Keras


def readers(mask=False):
    """Two embeddings, a bag of words and a one-hot encoding of the same tokens, in a nested model and outside."""
    inner = keras.Input((6,), dtype="int32")
    tower = keras.Model(
        inner, L.GRU(4, name="gru")(L.Embedding(10, 5, mask_zero=mask, name="words")(inner)), name="tower"
    )
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    bag = L.Dense(3, name="bag")(L.CategoryEncoding(10, name="counted")(tokens))
    hot = L.Dense(2, name="hot")(L.Flatten(name="flat")(ops.one_hot(tokens, 10)))
    short = L.GlobalMaxPooling1D(name="peak")(
        L.Embedding(10, 2, name="short")(L.Reshape((3, 2), name="pairs")(tokens))[:, 0]
    )
    both = L.Concatenate(name="both")([tower(tokens), bag, hot, short])
    return keras.Model(tokens, L.Dense(3, name="top")(both))


def tied():
    """A language model whose output layer is its table of words."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    table = L.ReversibleEmbedding(10, 5, name="words")
    return keras.Model(tokens, table(L.Dense(5, activation="tanh", name="mix")(table(tokens)), reverse=True))


LEFT = [0, 1, 2, 4, 5, 6, 8, 9]


def tokens(seed=0):
    """Tokens none of which are 3 or 7, and their numbers once these are gone."""
    old = np.random.default_rng(seed).choice(LEFT, (7, 6)).astype("int32")
    return old, np.searchsorted(LEFT, old).astype("int32")


@pytest.mark.keras
@pytest.mark.parametrize("mask", [False, True])
def test_words_that_do_not_occur_can_go(mask):
    model = readers(mask)
    randomise(model)
    snapshot, (old, new) = captured(model), tokens()
    smaller = check_purity(snapshot, DeleteChannels("tower/words", input_dim=[3, 7], **ALLOWED))
    check_rebuilt_record(smaller)
    assert [len(smaller.weights[path][0]) for path in ("tower/words", "short", "bag", "hot")] == [8, 8, 8, 48]
    truth = compute(snapshot, old)
    assert deviation(compute(smaller, new), truth) < 1e-5
    assert deviation(compute(sabotage(smaller), new), truth) > 1e-3
    wider = WidenChannels("short", input_dim=12, **ALLOWED)(snapshot)
    check_rebuilt_record(wider)
    assert deviation(compute(wider, old), truth) < 1e-5
    assert DeleteChannels("short", input_dim=[10, 11], **ALLOWED)(wider) == snapshot
    order = [0, 2, 1, *range(3, 10)]
    turned = ReorderChannels("short", input_dim=order, **ALLOWED)(snapshot)
    check_rebuilt_record(turned)
    assert deviation(compute(turned, np.argsort(order)[old]), truth) < 1e-5


@pytest.mark.keras
def test_words_of_a_tied_output_layer():
    model = tied()
    randomise(model)
    snapshot, (old, new) = captured(model), tokens()
    with pytest.raises(PinnedChannels, match=r"output of the model.*Pass allow_output_change=True"):
        DeleteChannels("words", input_dim=[3], **ALLOWED)(snapshot)
    smaller = DeleteChannels("words", input_dim=[3, 7], allow_output_change=True, **ALLOWED)(snapshot)
    check_rebuilt_record(smaller)
    truth = compute(snapshot, old)[0]
    assert deviation(compute(smaller, new), [truth[..., LEFT]]) < 1e-5
    wider = WidenChannels("words", input_dim=12, fill=[1], allow_output_change=True, **ALLOWED)(snapshot)
    check_rebuilt_record(wider)
    assert deviation(compute(wider, old), [truth[..., [*range(10), 1, 1]]]) < 1e-5


@pytest.mark.keras
def test_an_untied_output_layer_is_named_with_the_words():
    x = keras.Input((6,), dtype="int32", name="tokens")
    model = keras.Model(x, L.Dense(10, name="head")(L.LSTM(4, name="lstm")(L.Embedding(10, 5, name="words")(x))))
    edit = DeleteChannels({"words:input_dim": [3], "head": [3]}, allow_output_change=True, **ALLOWED)
    smaller = edit(captured(model))
    check_rebuilt_record(smaller)
    assert [len(smaller.weights[path][0].T) for path in ("head", "words")] == [9, 5]


@pytest.mark.keras
def test_layers_that_compute_with_the_values_keep_them():
    x = keras.Input((6,), dtype="int32", name="tokens")
    y = L.Embedding(10, 5, name="words")(x)

    def refused(other, words, rows):
        snapshot = captured(keras.Model(x, [y, other]))
        with pytest.raises(PinnedChannels, match=words):
            DeleteChannels("words", input_dim=rows, **ALLOWED)(snapshot)
        return snapshot

    refused(x * 2, "creates the values or computes with them", [3])
    padded = refused(ops.not_equal(x, 1), "compares the first values with a number", [1])
    check_rebuilt_record(DeleteChannels("words", input_dim=[2], **ALLOWED)(padded))
    ignored = captured(keras.Model(x, [y, ops.ones_like(x)]))
    check_rebuilt_record(DeleteChannels("words", input_dim=[0], **ALLOWED)(ignored))


# --- lookup layers


def looked_up(mask=False):
    """A lookup layer, the numbers of whose words two embeddings read."""
    x = keras.Input((5,), dtype="string", name="text")
    lookup = L.StringLookup(vocabulary=[*"abcdef"], num_oov_indices=2, mask_token="" if mask else None, name="lookup")
    y = lookup(x)
    both = L.Concatenate(name="both")([L.Embedding(9, 4, name="words")(y), L.Embedding(8 + mask, 3, name="more")(y)])
    return keras.Model(x, L.Dense(2, name="top")(L.GRU(4, name="gru")(both)))


@pytest.mark.keras
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("by", ["word", "row"])
def test_words_of_a_lookup_layer(mask, by):
    model = looked_up(mask)
    for layer_ in model.layers[2:]:  # a lookup layer has no weights
        layer_.set_weights([np.random.default_rng(0).standard_normal(w.shape) for w in layer_.get_weights()])
    snapshot, first = captured(model), 2 + mask
    edit = {"word": DeleteChannels("lookup", vocabulary=[1, 4], **ALLOWED),
            "row": DeleteChannels("words", input_dim=[first + 1, first + 4], **ALLOWED)}[by]  # fmt: skip
    smaller = check_purity(snapshot, edit)
    check_rebuilt_record(smaller)
    config = smaller.config["layers"][1]["config"]
    assert config["vocabulary"] == [*"acdf"]
    assert [len(smaller.weights[path][0]) for path in ("words", "more")] == [7, 6 + mask]
    text = np.random.default_rng(1).choice([*"acdf", "?", "z"], (7, 5))
    truth = compute(snapshot, text)
    assert deviation(compute(smaller, text), truth) < 1e-5
    assert deviation(compute(sabotage(smaller), text), truth) > 1e-3
    turned = ReorderChannels("lookup", vocabulary=[5, 4, 3, 2, 1, 0], **ALLOWED)(snapshot)
    check_rebuilt_record(turned)
    assert deviation(compute(turned, text), truth) < 1e-5


@pytest.mark.keras
def test_what_a_lookup_layer_cannot_lose_or_get():
    snapshot = captured(looked_up())
    with pytest.raises(PinnedChannels, match="'lookup' uses the first values for words that it does not know"):
        DeleteChannels("words", input_dim=[1], **ALLOWED)(snapshot)
    with pytest.raises(PinnedChannels, match=r"'lookup' .*knows these words.*Pass allow_input_change=True"):
        DeleteChannels("lookup", vocabulary=[1])(snapshot)
    with pytest.raises(CannotWiden, match="'lookup' would get new words"):
        WidenChannels("lookup", vocabulary=7, **ALLOWED)(snapshot)
