"""The edit that changes the shape and dtype of inputs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from kerassurgery_fn.arguments import as_shape, one_of, optional, shortened
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.steps.input_specs import with_input_specs
from kerassurgery_fn.edits.steps.interpolation import METHODS
from kerassurgery_fn.errors import BadValue, UnknownLayer, WrongShape
from kerassurgery_fn.graph import Graph, Selector, Shape, Spec, as_selector, is_input, leaves

DTYPES = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "bfloat16", "float16", "float32",
    "float64", "string",
)  # fmt: skip


@edit
@dataclass(frozen=True)
class SetInputShape(GraphEdit):
    """Changes the shape or dtype of inputs. The new sizes can be fixed or variable.

    All shapes after the inputs are updated: those of tensors and nested models, and the sizes in the configs of layers
    such as Reshape. The weights stay. All other config fields stay, too. This includes a padding that the code of a
    network computes from its input size, as the code of MobileNet and EfficientNet does for odd sizes.

    Some weights have a value for each position (position embeddings, normalisation over an image), as do arrays that
    are added to an image or a sequence. They fit one input size only. With `resize`, they are interpolated, and the
    optimizer's state of these layers is dropped. A flattened image is interpolated as an image; class tokens beside it
    keep their values.

    Args:
        layer: the inputs, see `graph.selectors`.
        shape: the shape of one sample, as in `keras.Input`: `(48, 64, 3)`, with None for a variable size. The batch
            size stays.
        batch_shape: the shape of a batch, to use instead of `shape`. The batch size or None comes first:
            `(8, 48, 64, 3)`.
        dtype: the dtype, such as `"uint8"`; by default the dtype stays.
        resize: the interpolation of values for positions: `"nearest"`, `"bilinear"` or `"bicubic"`.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name, or the layer is not an input.
        MisfitTensor: a layer cannot take its new input, such as a Dense layer after a Flatten; or a layer has values
            for another number of positions, and `resize` is None. The message names the layers.

    >>> SetInputShape("image", (None, None, 3))
    SetInputShape(layer='image', shape=(None, None, 3), batch_shape=None, dtype=None, resize=None)
    """

    layer: Selector
    shape: tuple[int | None, ...] | None = None
    batch_shape: tuple[int | None, ...] | None = None
    dtype: str | None = None
    resize: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        for field in ("shape", "batch_shape"):
            object.__setattr__(self, field, optional(as_sizes)(getattr(self, field), field))
        if self.shape is not None and self.batch_shape is not None:
            raise BadValue(
                "give either shape= (the shape of one sample) or batch_shape= (the shape of a batch), not both"
            )
        if self.shape is None and self.batch_shape is None and self.dtype is None:
            raise BadValue(f"SetInputShape({self.layer!r}) changes nothing; give shape=, batch_shape= or dtype=")
        dtype = getattr(self.dtype, "name", getattr(self.dtype, "__name__", self.dtype))
        object.__setattr__(self, "dtype", optional(one_of(DTYPES))(dtype, "dtype"))
        object.__setattr__(self, "resize", optional(one_of(METHODS))(self.resize, "resize"))

    def redraw(self, draft: Draft) -> Draft:
        specs: dict[str, dict[str, Spec]] = defaultdict(dict)
        for path in draft.find(self.layer):
            scope, key = parted(path)
            specs[scope][key] = self.spec(path, draft.graph(scope), key)
        for scope in sorted(specs):
            draft = with_input_specs(draft, scope, specs[scope], self.resize)
        return draft

    def spec(self, path: str, graph: Graph, key: str) -> Spec:
        """The spec of an input after the edit.

        Raises:
            UnknownLayer: the layer is not an input.
        """
        if not is_input(graph.layers[key]):
            inputs = ", ".join(repr(graph.name(port.layer)) for port in leaves(graph.inputs))
            raise UnknownLayer(
                f"layer {path!r} ({graph.layers[key]['class_name']}) is not an input; the inputs are {inputs}"
            )
        (batch, *sample), dtype = graph.layers[key]["config"]["batch_shape"], graph.layers[key]["config"]["dtype"]
        rest = sample if self.shape is None else self.shape
        return Spec((batch, *rest) if self.batch_shape is None else self.batch_shape, self.dtype or dtype)


def as_sizes(value: Any, name: str) -> Shape:
    """A shape whose sizes are positive or None.

    Raises:
        WrongShape: the value is not such a shape.
    """
    shape = as_shape(value, name)
    if 0 in shape:
        raise WrongShape(f"{name}: the sizes of an input are positive, or None for a variable size: {shortened(value)}")
    return shape
