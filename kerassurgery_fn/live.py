"""The door to live models: `capture` makes a snapshot of one, `rebuild` makes one of a snapshot."""

from __future__ import annotations

import inspect
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.errors import BrokenSnapshot, NotAGraph
from kerassurgery_fn.frozen import thaw
from kerassurgery_fn.graph import Record, is_model, join_path, name_of, wrapped_model
from kerassurgery_fn.hidden import refuse_hidden, with_vocabulary
from kerassurgery_fn.snapshot import Snapshot, Training, Weights

Fill = Callable[[keras.Variable, np.ndarray], None]


def capture(model: keras.Model) -> Snapshot:
    """The snapshot of a built Sequential or Functional model.

    A subclass of Functional whose `get_config` returns constructor arguments, as backbones of model collections have
    it, is captured as the plain graph that it is; so are those nested in another model. The state of a model's
    optimizer comes along. The model is not changed, and later training does not change the snapshot.

    Raises:
        NotAGraph: the model is not built, or it is subclassed and has no graph.
        HiddenState: a layer knows something that neither its config nor its weights tell.
    """
    record = _restated(model, json.loads(json.dumps(_record(model))))
    for path, layer, own in _layers(model, record, ""):
        refuse_hidden(path, layer, own)
    _warn_of_shared(model, record)
    weights = dict(_weights(model, record, ""))
    return Snapshot(record, weights, _training(model, record, weights))


def rebuild(
    snapshot: Snapshot, *, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True
) -> keras.Model:
    """A new Keras model that computes what the snapshot says, ready for `predict`, `compile`, `fit` and `save`.

    It is compiled as the captured model was, with its optimizer's state. What it saves is an ordinary Keras file.

    Args:
        snapshot: the model as a value; it is not changed.
        custom_objects: classes and functions by name, as in `keras.models.load_model`.
        safe_mode: refuse to revive Python lambdas, as in `keras.models.load_model`.

    Raises:
        BrokenSnapshot: Keras cannot rebuild the model, or weights do not fit it.
    """
    model = _deserialize(snapshot, custom_objects, safe_mode)
    if compile_config := snapshot.record.get("compile_config"):
        with keras.saving.custom_object_scope(dict(custom_objects or {})):
            model.compile_from_config(thaw(compile_config))
        _resume(model, snapshot)
    return model


def _record(model: keras.Model) -> dict[str, Any]:
    """The serialised record of a model, plain graphs in place of subclasses of Functional."""
    if not isinstance(model, keras.Model):
        raise NotAGraph(f"expected a keras.Model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        if not model.built or getattr(model, "_functional", None) is None:
            raise NotAGraph(f"Sequential model {model.name!r} is not built; call model.build(input_shape) first")
        if len({id(layer) for layer in model._layers}) < len(model._layers):
            raise NotAGraph(
                f"Sequential model {model.name!r} has a layer several times, and Keras writes it once; "
                "capture keras.Model(model.inputs, model.outputs)"
            )
        record = _serialized(model)
    elif not isinstance(model, _Functional):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is subclassed: it is code, and its layers form no graph; "
            "write it with the Functional API, or capture the Functional models in it"
        )
    elif _overrides_call(model):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is Functional but overrides call(), so that its graph is "
            "not what it computes; capture keras.Model(model.inputs, model.outputs) if the graph is what you mean"
        )
    else:
        record = _serialized(_plain(model))
        if (compile_config := model.get_compile_config()) is not None:
            record["compile_config"] = keras.saving.serialize_keras_object(compile_config)
    for layer, own in zip(_members(model), record["config"]["layers"], strict=True):
        if "name" not in own and "name" not in own["config"]:
            own["name"] = layer.name
    layers = {name_of(layer): layer for layer in record["config"]["layers"]}
    for layer in model.layers:
        inner, nested = layer, layers[layer.name]
        nested["config"] = with_vocabulary(layer, nested["config"])
        while type(inner) is keras.layers.TimeDistributed:
            inner, nested = inner.layer, nested["config"]["layer"]
        if isinstance(inner, _Functional | keras.Sequential) and (is_model(nested) or not _overrides_call(inner)):
            nested.update(
                {**_record(inner), **{key: nested[key] for key in ("name", "inbound_nodes") if key in nested}}
            )
            nested.pop("compile_config", None)
    return record


def _restated(model: keras.Model, record: dict[str, Any]) -> dict[str, Any]:
    """The record as Keras writes it of the model that it makes of it, where calls have numbers of numpy.

    A record tells the value of `np.sqrt(8)` but not that it is float64, so that tensors are of other dtypes afterwards.
    """
    if not any(_numbers_of_numpy(model)):
        return record
    try:
        with keras.StatelessScope():
            again = _from_record(Snapshot(record, {}), None, safe_mode=False)
            _name_operations(again, record)
            _keep_frozen(again, record)
            made = json.loads(json.dumps(_record(again)))
    except Exception:  # a class that is not registered, say: rebuild() is given it
        return record
    return {**made, **{key: record[key] for key in ("compile_config",) if key in record}}


def _numbers_of_numpy(model: keras.Model) -> Iterator[bool]:
    """Whether there are any, for every argument of every call in a model and in those nested in it."""
    for operation in _members(model):
        nodes = () if isinstance(model, keras.Sequential) else operation._inbound_nodes
        for node in nodes:
            leaves = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
            yield from (isinstance(leaf, np.generic) for leaf in leaves)
        while type(operation) is keras.layers.TimeDistributed:
            operation = operation.layer
        if isinstance(operation, _Functional | keras.Sequential):
            yield from _numbers_of_numpy(operation)


def _serialized(model: keras.Model) -> dict[str, Any]:
    try:
        with _configured(model):
            return keras.saving.serialize_keras_object(model)
    except Exception as error:
        raise NotAGraph(
            f"model {model.name!r} cannot be captured, as {_unsaved(model)} could not be saved: {_at_root(error)}; "
            "its class wants a get_config() that gives all that its constructor takes"
        ) from error


@contextmanager
def _configured(model: keras.Model) -> Iterator[None]:
    """Within it, operations made with integers of numpy, such as `np.prod` gives for a shape, have a config.

    Keras writes none for them, so that it cannot save the model.
    """
    silent = [one for one in _operations(model) if getattr(one, "_auto_config", True) is None and _is_of_keras(one)]
    for operation in silent:
        operation._auto_config = _arguments_of(operation)
    try:
        yield
    finally:
        for operation in silent:
            operation._auto_config = None


def _operations(model: keras.Model) -> Iterator[keras.Operation]:
    """All layers and operations of a model and of those in it."""
    for operation in _members(model):
        yield operation
        if isinstance(operation, keras.Sequential | _Functional):
            yield from _operations(operation)


def _is_of_keras(operation: keras.Operation) -> bool:
    return type(operation).__module__.startswith("keras.src.ops.")


def _arguments_of(operation: keras.Operation) -> SimpleNamespace | None:
    """What an operation was made with, as plain Python; None if its attributes do not tell, as a copy would show."""
    names = [name for name in inspect.signature(type(operation).__init__).parameters if name not in ("self", "name")]
    try:
        config = {name: _plainly(getattr(operation, name)) for name in names}
        copy = type(operation)(**config)
        same = all(_plainly(getattr(copy, name)) == config[name] for name in names)
    except (AttributeError, TypeError, ValueError):
        return None
    return SimpleNamespace(config=config) if same else None


def _plainly(value: Any) -> Any:
    """A value with integers of Python for those of numpy.

    >>> _plainly((-1, np.int64(8), np.array([2, 3])))
    (-1, 8, [2, 3])

    Raises:
        TypeError: it is not made of integers, strings and the like.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float() if not isinstance(value, np.generic):
            return value
        case np.integer() | np.bool_() | np.ndarray() if value.dtype.kind in "iub":
            return value.tolist()
        case tuple() | list():
            return type(value)(map(_plainly, value))
    raise TypeError(f"{value!r} is not plain")


def _unsaved(model: keras.Model) -> str:
    """The innermost layer or operation of a model that cannot be saved, in words."""
    for layer in _members(model):
        try:
            keras.saving.serialize_keras_object(layer)
        except Exception:
            return _unsaved(layer) if hasattr(layer, "layers") else f"layer {layer.name!r} ({type(layer).__name__})"
    return "it"


def _at_root(error: BaseException) -> str:
    """What went wrong first, without the configs that Keras adds on the way up."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


_Functional = type(keras.Model(inputs=(_x := keras.Input((1,))), outputs=_x))


def _plain(model: keras.Model) -> keras.Model:
    """The model itself if its class writes its graph, else a plain model of the same graph."""
    if type(model) is _Functional:
        return model
    if type(model).__module__.startswith("keras.") and "layers" in model.get_config():
        return model
    plain = _Functional(model.input, model.output, name=model.name)
    plain._trainable = model.trainable
    return plain


def _overrides_call(model: keras.Model) -> bool:
    home = keras.Sequential if isinstance(model, keras.Sequential) else _Functional
    return type(model).call is not home.call


def _layers(model: keras.Model, record: Record, scope: str) -> Iterator[tuple[str, keras.layers.Layer, Record]]:
    """Every layer of a model that neither is nor wraps a model, with its path and record."""
    records = {name_of(layer): layer for layer in record["config"]["layers"]}
    for layer in model.layers:
        inner, own = _inside(layer, records[layer.name])
        path = join_path(scope, layer.name)
        if is_model(own):
            yield from _layers(inner, own, path)
        else:
            yield path, inner, own


def _inside(layer: keras.layers.Layer, record: Record) -> tuple[keras.layers.Layer, Record]:
    """The model that a layer wraps and its record, or the layer itself and its own."""
    own, where = wrapped_model(record) or (record, ())
    for _ in where[::2]:
        layer = layer.layer
    return layer, own


def _warn_of_shared(model: keras.Model, record: Record) -> None:
    """Warns of layers that two models share, for a config cannot say so: Keras makes a layer for each of them."""
    paths: dict[int, str] = {}
    for path, layer, _ in _layers(model, record, ""):
        if layer.weights and paths.setdefault(id(layer), path) != path:
            warnings.warn(
                f"{paths[id(layer)]!r} and {path!r} are one layer, in two models; a config cannot say so, and after "
                "rebuild() they are two layers with equal weights",
                stacklevel=3,
            )


def _weights(model: keras.Model, record: Record, scope: str) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    for path, layer, _ in _layers(model, record, scope):
        if layer.weights:
            yield path, tuple(_owned(array) for array in layer.get_weights())


def _owned(array: np.ndarray) -> np.ndarray:
    """The array itself if its memory is its own, else a copy: some backends hand out the variable's memory."""
    array = np.asarray(array)  # get_weights() gives a number as a numpy scalar
    return array if array.flags.owndata else array.copy()


class _Given:
    """An initializer that hands out an array: no random numbers are drawn that the weights would overwrite."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.convert_to_tensor(self.array, dtype=dtype)


def _deserialize(snapshot: Snapshot, custom_objects: Any, safe_mode: bool) -> keras.Model:
    """The model of a snapshot with its weights.

    Its variables wait in a stateless scope until each is given its array. Where some layer cannot be built in one, as
    stateful recurrent layers cannot, the model is built with random weights first.
    """
    try:
        return _filled(snapshot, custom_objects, safe_mode, keras.StatelessScope(), _defer)
    except BrokenSnapshot:
        raise
    except Exception:
        try:
            return _filled(snapshot, custom_objects, safe_mode, nullcontext(), _assign)
        except Exception as error:
            raise BrokenSnapshot(f"Keras cannot rebuild {snapshot.name!r}: {_at_root(error)}") from error


def _filled(
    snapshot: Snapshot, custom_objects: Any, safe_mode: bool, scope: AbstractContextManager[Any], fill: Fill
) -> keras.Model:
    drawn = {path for path, arrays in snapshot.weights.items() if not arrays}  # by the layer's initializers
    with scope:
        model = _from_record(snapshot, custom_objects, safe_mode)
        _name_operations(model, snapshot.record)
        _keep_frozen(model, snapshot.record)
        for path, layer, _ in _layers(model, snapshot.record, ""):
            if path not in drawn:
                _fill(path, layer, snapshot.weights.get(path, ()), fill)
    for _, layer, _ in _layers(model, snapshot.record, ""):
        if layer.weights and hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def _from_record(snapshot: Snapshot, custom_objects: Any, safe_mode: bool) -> keras.Model:
    record = {key: _with_tuples(thaw(value)) for key, value in snapshot.record.items() if key != "compile_config"}
    return keras.saving.deserialize_keras_object(record, custom_objects=dict(custom_objects or {}), safe_mode=safe_mode)


def _with_tuples(record: Any) -> Any:
    """A record with the shapes that layers are built for as tuples, as a model has them that comes from no file.

    >>> _with_tuples({"config": {"axes": [1, 2]}, "build_config": {"input_shape": [[None, 8], [None, 4]]}})
    {'config': {'axes': [1, 2]}, 'build_config': {'input_shape': [(None, 8), (None, 4)]}}
    """
    match record:
        case dict():
            return {key: (_as_tuples if key == "build_config" else _with_tuples)(item) for key, item in record.items()}
        case list():
            return [_with_tuples(item) for item in record]
    return record


def _as_tuples(shapes: Any) -> Any:
    match shapes:
        case dict():
            return {key: _as_tuples(item) for key, item in shapes.items()}
        case list() if any(isinstance(item, (list, dict)) for item in shapes):
            return [_as_tuples(item) for item in shapes]
        case list():
            return tuple(shapes)
    return shapes


def _keep_frozen(model: keras.Model, record: Record) -> None:
    """Keeps Sequential models frozen that were: Keras forgets it when it reads their config."""
    if isinstance(model, keras.Sequential):
        model._trainable = record["config"].get("trainable", True)
    for layer, one in zip(_members(model), record["config"]["layers"], strict=True):
        inner, own = _inside(layer, one)
        if is_model(own):
            _keep_frozen(inner, own)


def _members(model: keras.Model) -> list[Any]:
    """The layers and operations of a model, as its config lists them."""
    return model._layers if isinstance(model, keras.Sequential) else model.operations


def _name_operations(model: keras.Model, record: Record) -> None:
    """Gives layers and operations whose class writes no name into its config the name that they had."""
    for operation, one in zip(_members(model), record["config"]["layers"], strict=True):
        inner, own = _inside(operation, one)
        if is_model(own):
            _name_operations(inner, own)
        elif "name" not in one["config"] and type(operation).__name__ == one["class_name"]:
            operation.name = name_of(one)


def _defer(variable: keras.Variable, array: np.ndarray) -> None:
    variable._initializer = _Given(array)


def _assign(variable: keras.Variable, array: np.ndarray) -> None:
    variable.assign(array)


def _fill(path: str, layer: keras.layers.Layer, arrays: tuple[np.ndarray, ...], fill: Fill) -> None:
    shapes = [tuple(variable.shape) for variable in layer.weights]
    if shapes != [array.shape for array in arrays]:
        raise BrokenSnapshot(
            f"layer {path!r} has weights of shapes {shapes} by its config, but the snapshot holds "
            f"{[array.shape for array in arrays]}"
        )
    for variable, array in zip(layer.weights, arrays, strict=True):
        fill(variable, array)


def _training(model: keras.Model, record: Record, weights: Weights) -> Training | None:
    """The state of a model's optimizer, None before its first step and where a part of it belongs to no one weight."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not any(v.name == "iteration" and v.numpy() for v in optimizer.variables):
        return None
    slots = _slots(model, record)
    values = tuple(_owned(keras.ops.convert_to_numpy(variable)) for variable in optimizer.variables)
    for owner, value in zip(slots, values, strict=True):
        if value.ndim and (owner is None or value.shape != weights[owner[0]][owner[1]].shape):
            warnings.warn(
                f"the state of the optimizer ({type(optimizer).__name__}) stays behind: it has a variable of shape "
                f"{value.shape} that is not shaped like any weight; after rebuild() it starts anew",
                stacklevel=3,
            )
            return None
    return Training(slots, values)


def _slots(model: keras.Model, record: Record) -> tuple[tuple[str, int] | None, ...]:
    """The weight that each variable of the optimizer belongs to, by the name that the optimizer gives it.

    Weights of one name, as nested models may have them, take turns in the order of the model.
    """
    owners: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for path, layer, _ in _layers(model, record, ""):
        for index, variable in enumerate(layer.weights):
            if variable.trainable:
                owners[variable.path.replace("/", "_")].append((path, index))
    names = sorted(owners, key=len, reverse=True)
    seen: Counter[str] = Counter()
    slots: list[tuple[str, int] | None] = []
    for variable in model.optimizer.variables:
        name = next((name for name in names if variable.name.startswith(f"{name}_")), None)
        slots.append(owners[name][seen[variable.name] % len(owners[name])] if name else None)
        seen[variable.name] += 1
    return tuple(slots)


def _resume(model: keras.Model, snapshot: Snapshot) -> None:
    """Gives the optimizer of a rebuilt model the state that the snapshot carries."""
    if snapshot.training is None:
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    slots, values = _slots(model, snapshot.record), snapshot.training.by_owner()
    counts = Counter(slots)
    if any(counts[owner] != len(own) for owner, own in values.items()):
        warnings.warn(
            f"the state of the optimizer stays behind: compiled anew, {type(model.optimizer).__name__} has other "
            "variables than before; a global dtype policy must be the same as when the model was made",
            stacklevel=3,
        )
        return
    waiting = {owner: iter(own) for owner, own in values.items()}
    for variable, owner in zip(model.optimizer.variables, slots, strict=True):
        if owner in waiting:
            variable.assign(next(waiting[owner]))
