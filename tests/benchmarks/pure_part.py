"""Analysis, scores, plan and cut, side by side with Torch-Pruning where it is installed."""

import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from networks import NAMES, network, side_of
from timing import Prepared, Settings, in_turns, markdown, milliseconds, named, times_as_long

from helpers.kept import fresh
from kerassurgery_fn import Snapshot, analyse, capture, plan_pruning
from kerassurgery_fn.measure.model_scoring import importance
from kerassurgery_fn.values import gathering

CAN_COMPARE = bool(find_spec("torch") and find_spec("torch_pruning"))


def pruned(snapshot: Snapshot) -> Snapshot:
    """The snapshot without half of the channels of each group, those with the lowest scores: from the start to the end,
    nothing is known beforehand."""
    known = fresh(snapshot)
    scores = importance(known, by="group_magnitude")
    return plan_pruning(known, scores, ratios=0.5, inexact=True)(known)


def own_subjects(name: str) -> dict[str, Callable[[], object]]:
    """The analysis alone, and all that pruning takes."""
    snapshot = capture(network(name))
    warnings.simplefilter("ignore")
    return {
        "analysis": lambda: analyse(fresh(snapshot)),
        "again": lambda: analyse(snapshot),
        "all": lambda: pruned(snapshot),
    }


def torch_subjects(name: str) -> dict[str, Callable[[], object] | Prepared]:
    """The same by Torch-Pruning: its graph of dependencies; and the graph, group magnitudes and one step.

    A step changes the model, so that each step gets a new one.
    """
    import torch
    import torch_pruning
    from torch_twins import TWINS, Encoder

    torch.set_num_threads(1)
    image = torch.zeros(1, 3, side_of(name), side_of(name))
    magnitude = torch_pruning.importance.GroupMagnitudeImportance(p=2)

    def step(model: torch.nn.Module) -> object:
        encoders = [layer for layer in model.modules() if isinstance(layer, Encoder)]
        heads = {part: layer.heads for layer in encoders for part in (layer.query, layer.key, layer.value)}
        last = [*model.modules()][-1]
        pruner = torch_pruning.BasePruner(
            model, image, magnitude, pruning_ratio=0.5, ignored_layers=[last], num_heads=heads
        )
        pruner.step()
        return model

    model = TWINS[name]().eval()
    return {
        "graph": lambda: torch_pruning.DependencyGraph().build_dependency(model, image),
        "step": Prepared(lambda: TWINS[name]().eval(), step),
    }


def rows_of(name: str, settings: Settings) -> Iterator[list[str]]:
    """The analysis, and all of it, of one network: our times, those of Torch-Pruning, and the ratio."""
    times = in_turns(own_subjects(name) | (torch_subjects(name) if CAN_COMPARE else {}), settings)
    for what, own, other in (
        (f"{name}: analysis", "analysis", "graph"),
        ("analysis, scores, plan, cut", "all", "step"),
    ):
        against = [milliseconds(times[other]), times_as_long(times[other], times[own])] if CAN_COMPARE else ["", ""]
        yield [what, milliseconds(times[own]), *against]
    yield ["the analysis again", milliseconds(times["again"]), "", ""]


def main(settings: Settings) -> Iterator[str]:
    """The table of this benchmark."""
    gathering.THREADS = 1
    head = ["one thread", "kerassurgery_fn", "Torch-Pruning", "ratio"]
    yield markdown(head, [row for name in named(NAMES, settings) for row in rows_of(name, settings)])
