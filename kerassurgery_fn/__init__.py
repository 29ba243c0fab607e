"""Surgery on trained Keras models, as pure functions.

A model is a value: `capture` takes it, edits are functions on it, `rebuild` makes a model of it again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerassurgery_fn.analysis.channel_flow import analyse
    from kerassurgery_fn.analysis.coupled_groups import groups
    from kerassurgery_fn.analysis.layer_costs import cost
    from kerassurgery_fn.differences import diff, load_diff, patch, save_diff
    from kerassurgery_fn.documents.plan_algebra import concatenate, diff_plans, simplify
    from kerassurgery_fn.documents.plan_files import decode, encode, load_plan, save_plan
    from kerassurgery_fn.documents.preconditions import made_for
    from kerassurgery_fn.edits import (
        ConvertDtype,
        DeepenLayer,
        DeleteChannels,
        DeleteLayer,
        ExtractModel,
        FoldBatchNorm,
        InsertLayer,
        KeepChannels,
        RenameLayer,
        ReorderChannels,
        ReplaceHead,
        ReplaceLayer,
        SetConfig,
        SetTrainable,
        UnshareLayer,
        WidenChannels,
    )
    from kerassurgery_fn.edits.plan import Plan
    from kerassurgery_fn.errors import (
        AmbiguousLayer,
        BadData,
        BadDocument,
        BadFile,
        BadValue,
        BrokenSnapshot,
        CannotWiden,
        ChannelOutOfRange,
        HiddenState,
        InexactCut,
        MisfitTensor,
        NameTaken,
        NoChannels,
        NoHead,
        NotAGraph,
        NotALayer,
        NotASnapshot,
        NotEncodable,
        NotFoldable,
        NothingLeft,
        NotIndependent,
        OtherModel,
        PartialGroup,
        PinnedChannels,
        SurgeryError,
        TakenNode,
        UnknownCall,
        UnknownEdit,
        UnknownField,
        UnknownJob,
        UnknownLayer,
        UnknownNode,
        UnknownVersion,
        WrongShape,
    )
    from kerassurgery_fn.graph import of_class
    from kerassurgery_fn.keras_io.capturing import capture
    from kerassurgery_fn.keras_io.rebuilding import rebuild
    from kerassurgery_fn.keras_surgeon.surgeon import Surgeon
    from kerassurgery_fn.measure.apoz import score_by_apoz
    from kerassurgery_fn.measure.rule_probing import probe_rule
    from kerassurgery_fn.report import plot_widths, report_html, show
    from kerassurgery_fn.report.explanation import explain
    from kerassurgery_fn.rules import rule
    from kerassurgery_fn.values.snapshot import Snapshot

__version__ = "0.1.0"

_MODULES = {
    "AmbiguousLayer": "errors",
    "BadData": "errors",
    "BadDocument": "errors",
    "BadFile": "errors",
    "BadValue": "errors",
    "BrokenSnapshot": "errors",
    "CannotWiden": "errors",
    "ChannelOutOfRange": "errors",
    "ConvertDtype": "edits",
    "DeepenLayer": "edits",
    "DeleteChannels": "edits",
    "DeleteLayer": "edits",
    "ExtractModel": "edits",
    "FoldBatchNorm": "edits",
    "HiddenState": "errors",
    "InexactCut": "errors",
    "InsertLayer": "edits",
    "KeepChannels": "edits",
    "MisfitTensor": "errors",
    "NameTaken": "errors",
    "NoChannels": "errors",
    "NoHead": "errors",
    "NotAGraph": "errors",
    "NotALayer": "errors",
    "NotASnapshot": "errors",
    "NotEncodable": "errors",
    "NotFoldable": "errors",
    "NotIndependent": "errors",
    "NothingLeft": "errors",
    "OtherModel": "errors",
    "PartialGroup": "errors",
    "PinnedChannels": "errors",
    "Plan": "edits.plan",
    "RenameLayer": "edits",
    "ReorderChannels": "edits",
    "ReplaceHead": "edits",
    "ReplaceLayer": "edits",
    "SetConfig": "edits",
    "SetTrainable": "edits",
    "Snapshot": "values.snapshot",
    "Surgeon": "keras_surgeon.surgeon",
    "SurgeryError": "errors",
    "TakenNode": "errors",
    "UnknownCall": "errors",
    "UnknownEdit": "errors",
    "UnknownField": "errors",
    "UnknownJob": "errors",
    "UnknownLayer": "errors",
    "UnknownNode": "errors",
    "UnknownVersion": "errors",
    "UnshareLayer": "edits",
    "WidenChannels": "edits",
    "WrongShape": "errors",
    "analyse": "analysis.channel_flow",
    "capture": "keras_io.capturing",
    "concatenate": "documents.plan_algebra",
    "cost": "analysis.layer_costs",
    "decode": "documents.plan_files",
    "diff": "differences",
    "diff_plans": "documents.plan_algebra",
    "encode": "documents.plan_files",
    "explain": "report.explanation",
    "groups": "analysis.coupled_groups",
    "load_diff": "differences",
    "load_plan": "documents.plan_files",
    "made_for": "documents.preconditions",
    "of_class": "graph",
    "patch": "differences",
    "plot_widths": "report",
    "probe_rule": "measure.rule_probing",
    "rebuild": "keras_io.rebuilding",
    "report_html": "report",
    "rule": "rules",
    "save_diff": "differences",
    "save_plan": "documents.plan_files",
    "score_by_apoz": "measure.apoz",
    "show": "report",
    "simplify": "documents.plan_algebra",
}

__all__ = [
    "AmbiguousLayer", "BadData", "BadDocument", "BadFile", "BadValue", "BrokenSnapshot", "CannotWiden",
    "ChannelOutOfRange", "ConvertDtype", "DeepenLayer", "DeleteChannels", "DeleteLayer", "ExtractModel",
    "FoldBatchNorm", "HiddenState", "InexactCut", "InsertLayer", "KeepChannels", "MisfitTensor", "NameTaken",
    "NoChannels", "NoHead", "NotAGraph", "NotALayer", "NotASnapshot", "NotEncodable", "NotFoldable", "NotIndependent",
    "NothingLeft", "OtherModel", "PartialGroup", "PinnedChannels", "Plan", "RenameLayer", "ReorderChannels",
    "ReplaceHead", "ReplaceLayer", "SetConfig", "SetTrainable", "Snapshot", "Surgeon", "SurgeryError", "TakenNode",
    "UnknownCall", "UnknownEdit", "UnknownField", "UnknownJob", "UnknownLayer", "UnknownNode", "UnknownVersion",
    "UnshareLayer", "WidenChannels", "WrongShape", "analyse", "capture", "concatenate", "cost", "decode", "diff",
    "diff_plans", "encode", "explain", "groups", "load_diff", "load_plan", "made_for", "of_class", "patch",
    "plot_widths", "probe_rule", "rebuild", "report_html", "rule", "save_diff", "save_plan", "score_by_apoz", "show",
    "simplify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The object of that name, out of its room: rooms are opened when they are first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
