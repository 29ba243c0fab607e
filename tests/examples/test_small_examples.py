"""The two small examples, with settings that take seconds."""

import numpy as np
import pytest

from helpers.trials import example, run

pytestmark = pytest.mark.keras


def with_few_digits(monkeypatch, name):
    """The module of an example, with a quarter of the digits."""
    module = example(name)
    digits = module.sample_of_mnist()
    monkeypatch.setattr(module, "sample_of_mnist", lambda: digits[::4])
    return module


def test_only_the_new_head_is_trained_and_batch_norms_are_folded(monkeypatch):
    module = with_few_digits(monkeypatch, "swap_head")
    rows, output = run(module, "--each", 2, "--epochs", 1, "--head-epochs", 1, "--tune-epochs", 1)
    assert [row[:4] for row in rows] == [
        ["from scratch", "14", "25,061", "24,821"],
        ["new head", "14", "25,061", "245"],
        ["fine-tuned", "14", "25,061", "24,821"],
        ["folded", "10", "24,701", "24,701"],
    ]
    assert rows[2][4] == rows[3][4]
    assert float(output.rpartition("more than ")[2]) < 1e-4


def test_a_new_head_leaves_the_other_layers_unchanged():
    module = example("swap_head")
    pretrained = module.network()
    swapped = module.with_new_head(pretrained)
    few = module.Digits(np.random.default_rng(0).random((8, 28, 28, 1), "float32"), np.arange(8) % 5)
    module.train(swapped, few, 1, 1e-2, 0)
    for layer in pretrained.layers[:-1]:
        for before, after in zip(layer.get_weights(), swapped.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
    fresh, again = (swapped.get_layer("digits").get_weights()[0], pretrained.get_layer("digits").get_weights()[0])
    assert not np.array_equal(fresh, again)


def test_the_training_digits_have_equal_counts():
    module = example("swap_head")
    old, new = module.halves(0)
    assert set(old.labels) == set(new.labels) == set(range(5))
    assert len(old.labels) + len(new.labels) == 5000
    few, held = module.few_of_each(new, 3)
    assert np.bincount(few.labels).tolist() == [3] * 5
    assert len(few.labels) + len(held.labels) == len(new.labels)


def test_a_wider_network_starts_with_the_loss_of_the_narrow_network(monkeypatch):
    module = with_few_digits(monkeypatch, "widen")
    rows, output = run(module, "--times", 2, "--noise", 0, "--epochs", 1, "--more", 1)
    assert [row[0] for row in rows] == ["0", "1"]
    narrow, wide, scratch = rows[0][1:]
    assert narrow == wide != scratch
    assert "4,258 weights" in output
    assert "16,250 weights" in output
    assert float(output.partition("more than ")[2].partition(".\n")[0]) < 1e-4
    assert "From scratch, the wide network reaches the initial loss" in output


def test_the_epoch_in_which_a_model_catches_up():
    module = example("widen")
    losses = [module.Score(loss, 0.5) for loss in (2.0, 0.5, 0.4, 0.1)]
    assert module.epoch_of_equal_loss(module.Score(0.4, 0.9), losses) == "after epoch 2"
    assert module.epoch_of_equal_loss(module.Score(0.05, 0.9), losses) == "not within 3 epochs"
