"""The laws on networks of other people's packages that are Python code, or have layers that are.

pip install --no-deps mtcnn==1.0.0 kimm==0.2.5 keras-hub==0.32.0 kagglehub kagglesdk regex sentencepiece tokenizers tqdm
"""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from helpers.large import check_cut, fill, images
from helpers.laws import check_law, check_round_trip
from kerassurgery_fn import DeleteChannels, analyse, capture, groups, rebuild

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.ClassNotKept")]


def installed(module):
    """A module of another package; the test is skipped where that is not installed."""
    if find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module.partition('.')[0]} is not installed: see the head of {__file__}")
    return import_module(module)


# --- MTCNN: subclassed models

# Class -> the shape of its input, and the number of operations of its graph.
NETWORKS = {"PNet": ((None, None, None, 3), 10), "RNet": ((None, 24, 24, 3), 15), "ONet": ((None, 48, 48, 3), 19)}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_mtcnn(name, record_property):
    shape, operations = NETWORKS[name]
    model = getattr(installed(f"mtcnn.network.{name.lower()}"), name)(name=name)
    model.build(shape)
    snapshot = capture(model)
    assert len(snapshot.config["layers"]) == operations
    batch = np.random.default_rng(0).uniform(-1, 1, (3, *(size or 40 for size in shape[1:]))).astype("float32")
    for recorded, live in zip(rebuild(snapshot)(batch), model(batch), strict=True):
        np.testing.assert_array_equal(recorded, live)
    assert all("is an output" in reason for group in groups(snapshot) for reason in group.reasons)
    fixed = capture(model, inputs=(None, *(size or 24 for size in shape[1:])))
    record_property("prunable", check_law(rebuild(fixed)).prunable)


# --- kimm: a layer with weights of its own behind every convolution


def test_a_network_of_kimm(record_property):
    model = installed("kimm.models").HGNetV2B0(weights=None, input_shape=(64, 64, 3))
    fill(model)
    assert not any(not group.reasons for group in groups(capture(model)))
    measured = check_cut(model, capture(model, measure="*"), images(model, 4), tolerance=1e-4)
    record_property("prunable", measured.prunable)
    assert measured.prunable > 0.8


# --- keras-hub: blocks of transformers, which are layers made of layers

SIZES = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HEADS = {"num_heads": 4, "max_sequence_length": 16}
GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
TOKENS = {"token_ids": (None, 12), "padding_mask": (None, 12)}
PAIR = {f"{side}_{name}": shape for side in ("encoder", "decoder") for name, shape in TOKENS.items()}

# Name -> the backbone, the shapes for which its blocks are recorded, and what is cut.
BACKBONES = {
    "BERT": (
        lambda models: models.BertBackbone(**SIZES, **HEADS, num_segments=6), None,
        {"*/self_attention_layer:heads": [0, 2], "*/feedforward_intermediate_dense": range(12)},
    ),
    "GPT-2": (
        lambda models: models.GPT2Backbone(**SIZES, **HEADS), TOKENS,
        {"*/self_attention:heads": [1, 2], "*/feedforward_intermediate_dense": range(12)},
    ),
    "BART": (
        lambda models: models.BartBackbone(**SIZES, **HEADS), PAIR,
        {"*attention*@MultiHeadAttention:heads": [0, 1], "*/feedforward_intermediate_dense": range(12)},
    ),
    "Llama": (
        lambda models: models.LlamaBackbone(**SIZES, **GROUPED), TOKENS,
        {"*/feedforward_gate_dense": range(12), "*/self_attention/value:h": [0, 3]},
    ),
    "Whisper": (
        lambda models: models.WhisperBackbone(
            **SIZES, num_heads=4, num_mels=8, max_encoder_sequence_length=16, max_decoder_sequence_length=12
        ),
        {"encoder_features": (None, 12, 8), **{f"decoder_{name}": shape for name, shape in TOKENS.items()}},
        {"*attention*/query": [0, 1], "*/feedforward_intermediate_dense": range(12)},
    ),
    "Gemma": (
        lambda models: models.GemmaBackbone(**SIZES, **GROUPED, head_dim=8), TOKENS,
        {"*/ffw_gating": range(6), "*/attention/value:h": [0, 3, 5, 6]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_half_of_the_heads_and_units_go(name, record_property):
    make, inputs, channels = BACKBONES[name]
    snapshot = capture(make(installed("keras_hub.models")), expand=True, inputs=inputs)
    check_round_trip(snapshot)
    free = [group for group in groups(snapshot) if not group.reasons]
    assert len(free) >= 8
    measured = check_law(rebuild(snapshot), DeleteChannels(channels), opaque=set(analyse(snapshot).opaque))
    record_property("prunable", measured.prunable)
    assert parameters(measured.smaller) < 0.9 * parameters(snapshot)


def parameters(snapshot):
    return sum(array.size for arrays in snapshot.weights.values() for array in arrays)


@pytest.mark.parametrize("name", BACKBONES)
def test_random_channels_go(name, record_property):
    make, inputs, _ = BACKBONES[name]
    snapshot = capture(make(installed("keras_hub.models")), expand=True, inputs=inputs)
    measured = check_law(rebuild(snapshot), opaque=set(analyse(snapshot).opaque))
    record_property("prunable", measured.prunable)
