"""What the README says of edits and examples is so."""

import re
from pathlib import Path

import pytest

from kerassurgery_fn.edits import EDITS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title):
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_edit_stands_in_the_table():
    rows = [line for line in section("The edits").splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)\(?", row.split(" | ")[0])]
    assert sorted({*named} - {"Plan"}) == sorted(EDITS)


def test_every_example_is_listed_and_there():
    listed = re.findall(r"\(examples/(\w+\.py)\)", section("Examples"))
    programs = [
        file.name for file in (ROOT / "examples").glob("*.py") if "typer.run" in file.read_text(encoding="utf-8")
    ]
    assert sorted(listed) == sorted(programs)


@pytest.mark.keras
def test_the_edits_in_the_table_are_written_as_they_are_called():
    import keras

    import kerassurgery_fn

    known = {**vars(kerassurgery_fn), **EDITS, "layer": keras.layers.ReLU()}
    calls = re.findall(rf"`((?:{'|'.join(EDITS)})\([^`]*\))`", section("The edits"))
    made = [eval(call, known) for call in calls]
    assert len({type(one) for one in made}) == len(EDITS) - 1  # KeepChannels is called as DeleteChannels is


@pytest.mark.keras
def test_the_example_of_a_new_head():
    import keras

    x = keras.Input((8, 8, 3))
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="conv")(x))
    model = keras.Model(x, keras.layers.Dense(10, activation="softmax", name="predictions")(y))
    code = README.partition("<!-- example: head -->\n```python\n")[2].partition("```")[0]
    scope = {"model": model}
    exec(code, scope)
    tuned = scope["tuned"]
    assert tuned.output_shape == (None, 7)
    assert [weight.path for weight in tuned.trainable_weights] == ["predictions/kernel", "predictions/bias"]
    old, new = (one.get_layer("predictions").kernel.numpy() for one in (model, tuned))
    assert (new[:, :2] == old[:, [3, 5]]).all()
