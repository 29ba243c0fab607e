"""Writing a draft as a snapshot, and the base class of edits of layers."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import replace

from toolz import keyfilter

from kerassurgery_fn.analysis.custom_masks import refuse_left_masks
from kerassurgery_fn.analysis.masks import with_masks, without_masks
from kerassurgery_fn.analysis.shape_collector import Facts
from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.steps.compile_config import following_outputs
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.loss_scale import with_loss_scale
from kerassurgery_fn.errors import BadValue, MisfitTensor, NameTaken, NothingLeft
from kerassurgery_fn.graph import (
    Graph,
    Port,
    Record,
    Spec,
    graph_at,
    is_functional,
    is_input,
    join_path,
    layers_in,
    model_in,
    name_of,
    record_of,
    with_layer,
    with_name,
)
from kerassurgery_fn.values.frozen import set_in
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights


class GraphEdit(Edit):
    """The base class of edits of layers: each is a function from draft to draft.

    A derived class defines `redraw`. It can use the methods of the draft, and `redraw` of other edits: all edits of a
    draft refer to the layers of the original snapshot. In `Plan.at_once`, several of these edits change one draft,
    which is written once.

    >>> from dataclasses import dataclass
    >>> from kerassurgery_fn.edits import DeleteLayer, SetTrainable
    >>> @dataclass(frozen=True)
    ... class Freeze(GraphEdit):
    ...     pattern: str
    ...     def redraw(self, draft):
    ...         return SetTrainable(self.pattern, False).redraw(DeleteLayer("*@Dropout").redraw(draft))
    """

    @abstractmethod
    def redraw(self, draft: Draft) -> Draft:
        """The draft after the edit."""

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        return finish(redrawn(self, Draft(snapshot)))


def redrawn(edit: GraphEdit, draft: Draft) -> Draft:
    """The draft after an edit.

    Raises:
        BadValue: the result of the edit is not a draft.
    """
    result = edit.redraw(draft)
    if isinstance(result, Draft):
        return result
    raise BadValue(f"{type(edit).__name__}.redraw must return the draft after the edit, not {shortened(result)}")


def finish(draft: Draft) -> Snapshot:
    """The snapshot of a draft, with the config that Keras would write.

    Raises:
        MisfitTensor: a layer would be called on a tensor that it cannot take.
        NameTaken: two layers of a model would have the same name.
        NothingLeft: a Sequential model would be left without layers.
    """
    return finished(draft)[0]


def finished(draft: Draft) -> tuple[Snapshot, dict[str, str]]:
    """The snapshot of a draft, see `finish`; and path of each layer in the draft -> its path in the snapshot."""
    if not draft.graphs:
        return draft.snapshot, {}
    writing = _Writing(draft)
    scopes = {above for changed in draft.graphs for above in scopes_above(changed)}
    for scope in sorted(scopes, key=_depth, reverse=True):
        writing.write(scope)
    return writing.snapshot(), writing.paths


def scopes_above(scope: str) -> list[str]:
    """The path of a model, followed by the paths of the models around it.

    >>> scopes_above("a/b")
    ['a/b', 'a', '']
    """
    return [scope, *scopes_above(parted(scope)[0])] if scope else [""]


def _depth(scope: str) -> int:
    return scope.count("/") + bool(scope)


class _Writing:
    """Writes the models of a draft, the innermost models first.

    - `weights`: path in the draft -> weights, empty if they are drawn when the model is rebuilt;
    - `paths`: path in the draft -> path with the new names of the models that are written so far.
    """

    def __init__(self, draft: Draft) -> None:
        self.draft, self.graphs = draft, dict(draft.graphs)
        self.weights = draft.weights
        self.paths = {path: path for path in [*draft.before.places, *self.weights]}
        self.record = draft.snapshot.record

    def write(self, scope: str) -> None:
        """Writes the record of a model into the record of the model around it."""
        graph = self.graphs.get(scope) or self.draft.graph(scope)
        facts = settled(graph, self.arrays(), scope)
        refuse_left_masks(self.before(scope), graph)
        graph, specs = with_masks(graph, facts.specs)
        facts.specs.update(specs)
        record = written(graph, facts, scope)
        weightless = {join_path(scope, key) for key in graph.layers if facts.weights.get(key, []) == []}
        without = self.draft.fresh & weightless
        self.weights = {path: a for path, a in self.weights.items() if path not in without}
        self.paths = {path: renamed_in(graph, scope, now) for path, now in self.paths.items()}
        if scope:
            above, key = parted(scope)
            outer = self.graphs.get(above) or self.draft.graph(above)
            inner, place = model_in(outer.layers[key]) or (record, ())
            record = with_name(record, name_of(inner))  # another edit may have renamed the model
            self.graphs[above] = with_layer(outer, key, set_in(outer.layers[key], place, record))
        else:
            self.record = following_outputs(record, self.draft.snapshot.record, self.draft.output_origins)

    def before(self, scope: str) -> Graph:
        """The graph of a model in the original snapshot, without automatic masks."""
        return without_masks(graph_at(self.draft.before, self.draft.copies.get(scope, scope)))

    def arrays(self) -> Weights:
        """The weights by the new paths of their layers."""
        return {self.paths[path]: arrays for path, arrays in self.weights.items()}

    def snapshot(self) -> Snapshot:
        alive = {layer.path for layer in layers_in(self.record)}
        weights = keyfilter(alive.__contains__, self.arrays())
        training = None if self.is_uncompiled() else self.training(weights)
        training = with_loss_scale(training, self.draft.snapshot.record, self.record)
        return Snapshot(self.record, weights, training)

    def is_uncompiled(self) -> bool:
        """Whether no output of the model has a loss any more."""
        return self.draft.output_origins is not None and self.record.get("compile_config") == {}

    def training(self, weights: Weights) -> Training | None:
        """The optimizer's state without that of removed and new weights, and with copies for copied layers."""
        old = self.draft.snapshot.training
        if old is None:
            return None
        copies, owners = self.draft.copies, dict[str, list[str]]()
        for path in [*self.draft.snapshot.weights, *copies]:
            if path in copies or not self.draft.is_restarted(path):
                owners.setdefault(copies.get(path, path), []).append(self.paths.get(path, ""))
        kept = [
            ((now, owner[1]) if owner else None, value)
            for owner, value in zip(old.slots, old.values, strict=True)
            for now in (owners.get(owner[0], ()) if owner else [""])
            if owner is None or now in weights
        ]
        return Training(tuple(owner for owner, _ in kept), tuple(value for _, value in kept))


def written(graph: Graph, facts: Facts, scope: str) -> Record:
    """The record of a model, with the facts about its tensors and layers."""
    names = Counter(graph.name(key) for key in graph.listed if key)
    if repeated := [name for name, times in names.items() if times > 1]:
        raise NameTaken(
            f"{names[repeated[0]]} layers{f' of {scope!r}' * bool(scope)} would be named {repeated[0]!r}; give the "
            "layers of a model different names"
        )

    def spec(port: Port) -> Spec:
        if port not in facts.specs:
            raise MisfitTensor(
                f"the shape of the output of {graph.name(port.layer)!r} is not known; add a rule for its class"
            )
        return facts.specs[port]

    record = record_of(replace(graph, layers={**graph.layers, **facts.layers}), spec)
    if all(map(is_input, record["config"]["layers"])) and not is_functional(record):
        raise NothingLeft(f"Sequential model {graph.record['config']['name']!r} would be left without layers")
    return record


def renamed_in(graph: Graph, scope: str, path: str) -> str:
    """A path in which the key of a layer of one model is replaced by the name of the layer."""
    inside = path.removeprefix(f"{scope}/") if scope else path
    key, slash, rest = inside.partition("/")
    if (scope and inside == path) or key not in graph.layers:
        return path
    return join_path(scope, f"{graph.name(key)}{slash}{rest}")
