"""The edit that deletes residual blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from toolz import concat, groupby, unique, valmap

from kerassurgery_fn.analysis.residual_blocks import ResidualBlock, residual_blocks
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.draft import Draft, paths_to
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.errors import NoBlock, UnknownCall
from kerassurgery_fn.graph import Graph, Port, Selector, as_selector, redirected

Blocks = Mapping[str, Sequence[ResidualBlock]]  # by the path of a layer


@edit
@dataclass(frozen=True)
class DeleteBlock(GraphEdit):
    """Deletes residual blocks: all layers between a tensor and the sum that adds the result to a shortcut from this
    tensor. The readers of the sum read the shortcut instead.

    If the shortcut has layers, such as a projection, they stay. Layers of the block with other readers stay, too.
    `residual_blocks` lists the blocks of a model.

    Args:
        layer: the layers that name blocks, see `graph.selectors`: the sum of a block, or any layer inside it. A layer
            of a block inside a block names the inner block. Layers of a pattern that are in no block are ignored.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        NoBlock: no selected layer is part of a residual block.
        UnknownCall: another edit of the same plan has moved the sum.

    >>> DeleteBlock("conv4_block3_add")
    DeleteBlock(layer='conv4_block3_add')
    """

    layer: Selector

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))

    def redraw(self, draft: Draft) -> Draft:
        paths = draft.find(self.layer)
        blocks = residual_blocks(draft.snapshot)
        named = partial(blocks_of, closed=groupby(attrgetter("merge"), blocks), around=blocks_around(blocks))
        selected = list(unique(concat(map(named, paths)), key=lambda block: (block.model, block.call)))
        if paths and not selected:
            raise NoBlock(_no_block(paths, blocks))
        return without_blocks(draft, selected)


def blocks_around(blocks: Iterable[ResidualBlock]) -> dict[str, list[ResidualBlock]]:
    """Path of a layer -> the innermost blocks that contain it."""
    around: dict[str, list[ResidualBlock]] = {}
    for block in blocks:
        for path in block.layers:
            around.setdefault(path, []).append(block)
    return valmap(_innermost, around)


def _innermost(blocks: Sequence[ResidualBlock]) -> list[ResidualBlock]:
    return [block for block in blocks if not any({*other.calls} < {*block.calls} for other in blocks)]


def blocks_of(path: str, closed: Blocks, around: Blocks) -> Sequence[ResidualBlock]:
    """The blocks that a sum closes, or the innermost blocks that contain a layer or the model around it.

    Args:
        path: the path of the sum or layer.
        closed: path of a sum -> the blocks that it closes.
        around: path of a layer -> the innermost blocks that contain it.
    """
    found = (blocks.get(layer) for layer in paths_to(path) for blocks in (closed, around))
    return next(filter(None, found), [])


def without_blocks(draft: Draft, blocks: Iterable[ResidualBlock]) -> Draft:
    """The draft in which the readers of sums read the shortcuts.

    Raises:
        UnknownCall: another edit has moved a sum.
    """
    for model, inside in groupby(attrgetter("model"), blocks).items():
        graph = draft.graph(model)
        shortcuts = {Port(*block.call): _shortcut(graph, block) for block in inside}
        draft = draft.with_graph(model, redirected(graph, shortcuts))
    return draft


def _shortcut(graph: Graph, block: ResidualBlock) -> Port:
    """The tensor that is read in place of the sum of a block.

    Raises:
        UnknownCall: another edit has moved the sum.
    """
    if block.call not in graph.calls:
        raise UnknownCall(
            f"call {block.call[1]} of {block.merge!r} belongs to another layer after an earlier edit of the same "
            "plan; delete the block first"
        )
    return graph.reads(block.call)[block.operand]


def _no_block(paths: Sequence[str], blocks: Sequence[ResidualBlock]) -> str:
    layers = f"layer {paths[0]!r} is" if len(paths) == 1 else f"{len(paths)} layers ({paths[0]!r}, ...) are"
    merges = ", ".join(repr(block.merge) for block in blocks[:6]) + ", ..." * (len(blocks) > 6)
    known = f"the model has residual blocks that end at {merges}" if blocks else "the model has no residual blocks"
    return f"{layers} in no residual block, which needs a sum with a shortcut of the same shape; {known}"
