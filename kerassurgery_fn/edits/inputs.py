"""Inputs of other shapes."""

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
    """Inputs of another size or dtype, fixed or open. The weights stay, and all shapes behind the inputs follow: those
    of tensors and nested models, and the sizes that layers such as Reshape have in their configs.

    All other fields of configs stay: also a padding that the code of a network works out from the size of its input, as
    that of MobileNet and EfficientNet does where a size is odd.

    Weights with a value for each position (position embeddings, normalisation over an image) and arrays that are added
    to an image or a sequence fit one size only. They are interpolated if that is asked for; the optimizer's state of
    these layers goes. An image that was laid flat is interpolated as an image, class tokens beside it stay.

    Args:
        layer: which inputs, see `graph.selectors`.
        shape: the shape of one sample, as `keras.Input` takes it: `(48, 64, 3)`, with None for an open size. The size
            of the batch stays.
        batch_shape: the shape of a batch in place of that, its size or None first: `(8, 48, 64, 3)`.
        dtype: the dtype, such as `"uint8"`; it stays by default.
        resize: how values for positions are interpolated: `"nearest"`, `"bilinear"` or `"bicubic"`.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several, of that name, or it is no input.
        MisfitTensor: a layer cannot take what it would read, such as a Dense layer behind a Flatten; or a layer has
            values for another number of positions, and `resize` is not given. The message names the layers.

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
            raise BadValue("give shape=, that of one sample, or batch_shape=, that of a batch, and not both")
        if self.shape is None and self.batch_shape is None and self.dtype is None:
            raise BadValue(f"SetInputShape({self.layer!r}) changes nothing; give shape=, batch_shape= or dtype=")
        dtype = getattr(self.dtype, "name", getattr(self.dtype, "__name__", self.dtype))
        object.__setattr__(self, "dtype", optional(one_of(DTYPES))(dtype, "dtype"))
        object.__setattr__(self, "resize", optional(one_of(METHODS))(self.resize, "resize"))

    def redraw(self, draft: Draft) -> Draft:
        wanted: dict[str, dict[str, Spec]] = defaultdict(dict)
        for path in draft.find(self.layer):
            scope, key = parted(path)
            wanted[scope][key] = self.spec(path, draft.graph(scope), key)
        for scope in sorted(wanted):
            draft = with_input_specs(draft, scope, wanted[scope], self.resize)
        return draft

    def spec(self, path: str, graph: Graph, key: str) -> Spec:
        """The spec of an input after the edit.

        Raises:
            UnknownLayer: the layer is no input.
        """
        if not is_input(graph.layers[key]):
            inputs = ", ".join(repr(graph.name(port.layer)) for port in leaves(graph.inputs))
            raise UnknownLayer(
                f"{path!r} is a layer of class {graph.layers[key]['class_name']}, and no input; the inputs are {inputs}"
            )
        (batch, *sample), dtype = graph.layers[key]["config"]["batch_shape"], graph.layers[key]["config"]["dtype"]
        rest = sample if self.shape is None else self.shape
        return Spec((batch, *rest) if self.batch_shape is None else self.batch_shape, self.dtype or dtype)


def as_sizes(value: Any, name: str) -> Shape:
    """A shape without empty axes.

    Raises:
        WrongShape: it is none.
    """
    shape = as_shape(value, name)
    if 0 in shape:
        raise WrongShape(f"{name}: the sizes of an input are positive, or None where they are open: {shortened(value)}")
    return shape
