"""How large plans and differences of whole networks are, and how long they take."""

import shutil
from time import process_time

import numpy as np
import pytest

from kerassurgery_fn import Snapshot, capture, groups
from kerassurgery_fn.differences import Stored, diff, load_diff, patch, save_diff
from kerassurgery_fn.documents.plan_algebra import lost_channels, simplify
from kerassurgery_fn.documents.plan_files import load_plan, save_plan
from kerassurgery_fn.documents.preconditions import made_for
from kerassurgery_fn.edits import DeleteChannels

pytestmark = pytest.mark.keras


def network(name):
    """A network of keras.applications with random weights, and a plan that takes half of all its free channels."""
    import keras

    keras.utils.set_random_seed(0)
    snapshot = capture(getattr(keras.applications, name)(weights=None))
    rng = np.random.default_rng(0)
    chosen = {}
    for group in groups(snapshot):
        if not group.pinned:
            address, *_ = group.made
            chosen[address] = group.channels(rng.permutation(len(group))[: len(group) // 2])[address]
    return snapshot, DeleteChannels(chosen)


def tuned(snapshot, *layers):
    """A copy of which some layers, or all, have moved by one per cent."""
    rng = np.random.default_rng(1)
    return Snapshot(
        snapshot.record,
        {
            path: tuple(array * rng.normal(1, 0.01, array.shape).astype(array.dtype) for array in arrays)
            if not layers or path in layers
            else arrays
            for path, arrays in snapshot.weights.items()
        },
    )


def bytes_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


# Upper bounds in kB: of the plan, of the difference of the pruned model, and of that with its last layer trained on.
@pytest.mark.parametrize(
    "name, head, plan_kb, diff_kb",
    [
        ("MobileNetV2", "predictions", 40, 45),
        pytest.param("ResNet50", "predictions", 40, 40, marks=pytest.mark.slow),
        pytest.param("InceptionV3", "predictions", 60, 80, marks=pytest.mark.slow),
    ],
)
def test_a_pruned_network_is_a_small_file_beside_the_whole(name, head, plan_kb, diff_kb, tmp_path, record_property):
    whole, plan = network(name)
    half = plan(whole)
    weights = sum(array.nbytes for arrays in half.weights.values() for array in arrays)
    sizes = {}
    for what, made in {"plan": plan, "plan for this model": made_for(plan, whole)}.items():
        (folder := tmp_path / what).mkdir()
        save_plan(made, folder / "plan.json")
        assert load_plan(folder / "plan.json") == made
        sizes[what] = bytes_of(folder)
    last = sum(array.nbytes for array in half.weights[head])
    for what, after in {"pruned": half, "pruned, last layer tuned": tuned(half, head), "tuned": tuned(whole)}.items():
        (folder := tmp_path / what).mkdir()
        start = process_time()
        difference = diff(whole, after)
        seconds = process_time() - start
        save_diff(difference, folder / "diff.json")
        assert patch(whole, load_diff(folder / "diff.json")) == after
        sizes[what] = bytes_of(folder)
        shutil.rmtree(folder)
        record_property(f"{what}: seconds", seconds)
        assert seconds < 30
        if what == "pruned":
            assert not any(isinstance(piece, Stored) for made in difference.weights.values() for piece in made)
            lost = lost_channels(plan, whole)
            assert {path: difference.pick(i).lost.tolist() for path, i in difference.channels.items()} == {
                path: list(channels) for path, channels in lost.items()
            }
    record_property("bytes", sizes)
    print(name, sizes, f"weights of the pruned model {weights}")  # noqa: T201
    assert sizes["plan"] < plan_kb * 1000
    assert sizes["pruned"] < diff_kb * 1000 < weights / 100
    assert sizes["pruned, last layer tuned"] < sizes["pruned"] + 1.01 * last + 2000
    assert sizes["tuned"] < 1.01 * sum(array.nbytes for arrays in whole.weights.values() for array in arrays) + 200_000


def test_a_plan_that_names_every_layer_is_simplified_to_its_groups():
    whole, plan = network("MobileNetV2")
    everywhere = DeleteChannels(lost_channels(plan, whole))
    short = simplify(everywhere, whole)
    assert short(whole) == plan(whole)
    assert len(short.edits) == 1
    assert sum(map(len, short.edits[0].channels.values())) == sum(map(len, plan.channels.values()))
    assert len(everywhere.channels) > len(short.edits[0].channels)
