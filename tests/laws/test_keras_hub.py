"""The laws on backbones of keras-hub, whose blocks are layers made of layers: half of the heads and units are cut.

pip install --no-deps keras-hub==0.32.0 kagglehub kagglesdk regex sentencepiece tokenizers tqdm
"""

from importlib.util import find_spec

import pytest

from helpers.laws import check_law, check_round_trip
from kerassurgery_fn import DeleteChannels, analyse, capture, groups, rebuild

if find_spec("keras_hub") is None:
    pytest.skip("keras-hub is not installed: see the head of this file", allow_module_level=True)

models = pytest.importorskip("keras_hub.models")

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.ClassNotKept")]

SIZES = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HEADS = {"num_heads": 4, "max_sequence_length": 16}
GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
TOKENS = {"token_ids": (None, 12), "padding_mask": (None, 12)}
PAIR = {f"{side}_{name}": shape for side in ("encoder", "decoder") for name, shape in TOKENS.items()}

# Name -> the backbone, the shapes for which its blocks are recorded, and what is cut.
BACKBONES = {
    "BERT": (
        lambda: models.BertBackbone(**SIZES, **HEADS, num_segments=6), None,
        {"*/self_attention_layer:heads": [0, 2], "*/feedforward_intermediate_dense": range(12)},
    ),
    "GPT-2": (
        lambda: models.GPT2Backbone(**SIZES, **HEADS), TOKENS,
        {"*/self_attention:heads": [1, 2], "*/feedforward_intermediate_dense": range(12)},
    ),
    "BART": (
        lambda: models.BartBackbone(**SIZES, **HEADS), PAIR,
        {"*attention*@MultiHeadAttention:heads": [0, 1], "*/feedforward_intermediate_dense": range(12)},
    ),
    "Llama": (
        lambda: models.LlamaBackbone(**SIZES, **GROUPED), TOKENS,
        {"*/feedforward_gate_dense": range(12), "*/self_attention/value:h": [0, 3]},
    ),
    "Gemma": (
        lambda: models.GemmaBackbone(**SIZES, **GROUPED, head_dim=8), TOKENS,
        {"*/ffw_gating": range(6), "*/attention/value:h": [0, 3, 5, 6]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_half_of_the_heads_and_units_go(name, record_property):
    make, inputs, channels = BACKBONES[name]
    snapshot = capture(make(), expand=True, inputs=inputs)
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
    snapshot = capture(make(), expand=True, inputs=inputs)
    measured = check_law(rebuild(snapshot), opaque=set(analyse(snapshot).opaque))
    record_property("prunable", measured.prunable)
