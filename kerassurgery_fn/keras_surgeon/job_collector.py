"""`Surgeon`, from Keras-surgeon's module `surgeon`: several operations on a live model at once."""

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
    """Collects jobs for a model and runs all of them at once. Every job refers to the original model.

    ```python
    surgeon = Surgeon(model)
    surgeon.add_job("delete_channels", layer_1, channels=[2, 6, 8])
    surgeon.add_job("insert_layer", layer_2, new_layer=keras.layers.Dropout(0.3))
    new_model = surgeon.operate()
    ```

    Args:
        model: a Sequential or Functional model; it is not changed.
        copy: has no effect: the model is never changed.
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
        *more: Any,
        channels: Any = None,
        new_layer: Any = None,
        node_indices: Iterable[int] | None = None,
    ) -> None:
        """Adds a job. The order of jobs does not matter.

        Args:
            job: `delete_layer`, `insert_layer` (before `layer`; takes `new_layer`), `replace_layer` (takes
                `new_layer`) or `delete_channels` (takes `channels`).
            layer: a layer of the model, its name, or its path in nested models. As in Keras-surgeon, the model may come
                before it: `add_job("delete_layer", model, layer)`.
            channels: indices (negative ones count from the end), or a boolean mask.
            new_layer: a layer; its weights are copied if it is built.
            node_indices: indices into `layer._inbound_nodes`: the calls to change; by default all calls in the model.

        Raises:
            UnknownJob: the job is unknown, or a required argument is missing.
            UnknownLayer, UnknownNode: the model has no such layer or node.
            TakenNode: a node has a job already.
        """
        if more:
            layer = _without_model(self.model, layer, more)
        new_job = job_of(job, calls_of(self.model, layer, node_indices), channels, new_layer)
        for other in self._jobs:
            if other.calls.overlap(new_job.calls):
                raise TakenNode(
                    f"{job!r} cannot be added for layer {new_job.calls.path!r}: the same node has the job "
                    f"{other.kind!r}; give each node one job, or use a second Surgeon for the result"
                )
        self._jobs.append(new_job)

    def operate(self) -> keras.Model:
        """A new Functional model with all jobs done, not compiled.

        Raises:
            SurgeryError: a job is impossible; the message says why.
        """
        return operate(self.model, self._jobs)


def _without_model(model: Any, first: Any, more: tuple[Any, ...]) -> Any:
    """The layer in the arguments `model, layer`."""
    if first is not model or len(more) != 1:
        raise UnknownJob(
            f"add_job takes a job and one layer, not {1 + len(more)} layers; pass all other arguments by name"
        )
    return more[0]
