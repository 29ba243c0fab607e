"""Keras-surgeon's `Surgeon`: several operations on a live model in one traversal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kerassurgery_fn.arguments import as_model, takes
from kerassurgery_fn.errors import TakenNode, UnknownJob
from kerassurgery_fn.keras_surgeon.jobs import JOBS, Job, job_of, operate
from kerassurgery_fn.keras_surgeon.nodes import calls_of

if TYPE_CHECKING:
    import keras


class Surgeon:
    """Collects jobs on a model and does them all at once; each refers to the model as it is before any of them.

    ```python
    surgeon = Surgeon(model)
    surgeon.add_job("delete_channels", layer_1, channels=[2, 6, 8])
    surgeon.add_job("insert_layer", layer_2, new_layer=keras.layers.Dropout(0.3))
    new_model = surgeon.operate()
    ```

    Args:
        model: a Sequential or Functional model; it is not changed.
        copy: has no effect, a model is never changed.
    """

    valid_jobs = tuple(JOBS)

    @takes(model=as_model)
    def __init__(self, model: keras.Model, copy: bool | None = None) -> None:
        self.model = model
        self._jobs: list[Job] = []

    def add_job(
        self,
        job: str,
        layer: Any,
        *of_model: Any,
        channels: Any = None,
        new_layer: Any = None,
        node_indices: Iterable[int] | None = None,
    ) -> None:
        """Adds a job. The order in which jobs are added does not matter.

        Args:
            job: `delete_layer`, `insert_layer` (before `layer`; takes `new_layer`), `replace_layer` (takes
                `new_layer`) or `delete_channels` (takes `channels`).
            layer: a layer of the model, its name, or its path in nested models. It may stand behind the model, as in
                `add_job("delete_layer", model, layer)`.
            channels: indices, negative ones from the end, or a boolean mask.
            new_layer: a layer. If it is built its weights come along.
            node_indices: indices into `layer._inbound_nodes` of the calls that are meant; all of the model by default.

        Raises:
            UnknownJob, UnknownLayer, UnknownNode: there is no such thing, or the job lacks what it takes.
            TakenNode: one of the nodes has a job already.
        """
        if of_model:
            layer = _of_model(self.model, layer, of_model)
        new = job_of(job, calls_of(self.model, layer, node_indices), channels, new_layer)
        for other in self._jobs:
            if other.calls.meet(new.calls):
                raise TakenNode(
                    f"{job!r} cannot be done at layer {new.calls.path!r}: {other.kind!r} is to be done at the same "
                    "node; give a node one job, or operate twice"
                )
        self._jobs.append(new)

    def operate(self) -> keras.Model:
        """A new model, Functional and not compiled, on which all jobs are done.

        Raises:
            SurgeryError: a job cannot be done; the message says why.
        """
        return operate(self.model, self._jobs)


def _of_model(model: Any, first: Any, rest: tuple[Any, ...]) -> Any:
    """The layer in `model, layer`."""
    if first is not model or len(rest) != 1:
        raise UnknownJob(f"add_job takes a job and a layer, and the rest by name; not {1 + len(rest)} layers")
    return rest[0]
