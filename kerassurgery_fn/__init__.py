"""Surgery on trained Keras models, as pure functions.

    snapshot = capture(model)                                  # config and weights, as an immutable value
    snapshot = DeleteChannels("conv_1", [0, 4, 7])(snapshot)   # an edit is a function from snapshot to snapshot
    snapshot = DeleteLayer("dropout")(snapshot)
    show(snapshot)                                             # layers, shapes, parameters
    smaller = rebuild(snapshot)                                # a Keras model, ready for fit and save

Edits do not change their argument, and compose with `toolz.pipe`. `help(kerassurgery_fn.DeleteChannels)` describes one.

From and to Keras     capture, rebuild, Snapshot
From and to files     read_model, write_model, read_metadata, read_weights, write_weights: files without Keras
Edit channels         DeleteChannels, KeepChannels, ReorderChannels, WidenChannels, MixInputs
Edit layers           InsertLayer, DeleteLayer, DeleteBlock, ReplaceLayer, RenameLayer, UnshareLayer, DeepenLayer
Edit the model        ReplaceHead, ExtractModel, FoldBatchNorm, SetConfig, SetTrainable, ConvertDtype, RenameModel
Edit nested models    FlattenModel, NestLayers
Edit inputs, outputs  SetInputShape, AddInput, SetOutputs
Several edits         Plan: a sequence of edits is an edit; Plan.at_once: indices refer to the first snapshot
Select layers         of_class; names, paths and patterns such as "block_*/conv"
What depends on what  analyse, groups, residual_blocks, explain
How much, how useful  cost, importance, Scores, save_scores, load_scores, criterion, score_by_apoz
Statistics of data    measure_statistics, save_statistics, load_statistics
Prune to a budget     prune, plan_pruning, reconstructed
Budgets of latency    measure_latencies, LatencyTable, latency, layer_work, save_latencies, load_latencies
Delete whole blocks   score_blocks, BlockScores; depth= of prune and plan_pruning
Prune and train       prune_iteratively, recalibrate_batch_norm
Train to be pruned    GroupLasso, BatchNormL1, RelativeDecay, GrowingDecay, SparsityTraining: callbacks for fit
How sensitive it is   sensitivity, Sensitivity, save_sensitivity, load_sensitivity, plot_sensitivity
Look at results       show, report_html, plot_widths
Save and replay       save_plan, load_plan, encode, decode, made_for, simplify, concatenate, diff_plans
Compare two models    diff, patch, save_diff, load_diff
Teach a new layer     rule, probe_rule
Keras-surgeon         Surgeon; the modules kerassurgery_fn.operations, .surgeon and .identify
Errors                SurgeryError and its subclasses in kerassurgery_fn.errors; the warnings InexactCut, ClassNotKept
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerassurgery_fn.analysis.channel_flow import analyse
    from kerassurgery_fn.analysis.coupled_groups import groups
    from kerassurgery_fn.analysis.layer_costs import cost
    from kerassurgery_fn.analysis.residual_blocks import residual_blocks
    from kerassurgery_fn.archive import read_metadata, read_model, read_weights, write_model, write_weights
    from kerassurgery_fn.differences import diff, load_diff, patch, save_diff
    from kerassurgery_fn.documents.plan_algebra import concatenate, diff_plans, simplify
    from kerassurgery_fn.documents.plan_files import decode, encode, load_plan, save_plan
    from kerassurgery_fn.documents.preconditions import made_for
    from kerassurgery_fn.edits import (
        AddInput,
        ConvertDtype,
        DeepenLayer,
        DeleteBlock,
        DeleteChannels,
        DeleteLayer,
        ExtractModel,
        FlattenModel,
        FoldBatchNorm,
        InsertLayer,
        KeepChannels,
        MixInputs,
        NestLayers,
        RenameLayer,
        RenameModel,
        ReorderChannels,
        ReplaceHead,
        ReplaceLayer,
        SetConfig,
        SetInputShape,
        SetOutputs,
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
        BadScores,
        BadValue,
        BrokenSnapshot,
        BudgetMissed,
        CannotWiden,
        ChannelOutOfRange,
        ClassNotKept,
        HiddenState,
        InexactCut,
        MisfitTensor,
        MissingData,
        NameTaken,
        NoBatchNorm,
        NoBlock,
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
        UnknownCriterion,
        UnknownEdit,
        UnknownField,
        UnknownGroup,
        UnknownJob,
        UnknownLayer,
        UnknownNode,
        UnknownVersion,
        UnreachableBudget,
        WrongShape,
    )
    from kerassurgery_fn.graph import of_class
    from kerassurgery_fn.keras_io.capturing import capture
    from kerassurgery_fn.keras_io.rebuilding import rebuild
    from kerassurgery_fn.keras_surgeon.job_collector import Surgeon
    from kerassurgery_fn.measure.apoz_scoring import score_by_apoz
    from kerassurgery_fn.measure.batch_norm_recalibration import recalibrate_batch_norm
    from kerassurgery_fn.measure.block_scoring import score_blocks
    from kerassurgery_fn.measure.iterative_pruning import prune_iteratively
    from kerassurgery_fn.measure.latency_measurement import measure_latencies
    from kerassurgery_fn.measure.model_pruning import prune
    from kerassurgery_fn.measure.model_scoring import importance
    from kerassurgery_fn.measure.rule_probing import probe_rule
    from kerassurgery_fn.measure.sensitivity_analysis import sensitivity
    from kerassurgery_fn.measure.sparsity_callbacks import SparsityTraining
    from kerassurgery_fn.measure.sparsity_penalties import BatchNormL1, GroupLasso, GrowingDecay, RelativeDecay
    from kerassurgery_fn.measure.statistics_pass import measure_statistics
    from kerassurgery_fn.pruning.block_scores import BlockScores
    from kerassurgery_fn.pruning.channel_scores import Scores
    from kerassurgery_fn.pruning.channel_sensitivity import Sensitivity, load_sensitivity, save_sensitivity
    from kerassurgery_fn.pruning.criterion_registry import criterion
    from kerassurgery_fn.pruning.latency_files import load_latencies, save_latencies
    from kerassurgery_fn.pruning.latency_tables import LatencyTable
    from kerassurgery_fn.pruning.layer_work import layer_work
    from kerassurgery_fn.pruning.model_latency import latency
    from kerassurgery_fn.pruning.pruning_plans import plan_pruning
    from kerassurgery_fn.pruning.reconstruction import reconstructed
    from kerassurgery_fn.pruning.score_files import load_scores, save_scores
    from kerassurgery_fn.pruning.statistics_files import load_statistics, save_statistics
    from kerassurgery_fn.report import plot_sensitivity, plot_widths, report_html, show
    from kerassurgery_fn.report.explanation import explain
    from kerassurgery_fn.rules import rule
    from kerassurgery_fn.values.snapshot import Snapshot

__version__ = "0.1.0"

# Module -> the names that the package exports from it.
_EXPORTS = {
    "keras_io.capturing": "capture",
    "keras_io.rebuilding": "rebuild",
    "values.snapshot": "Snapshot",
    "archive": "read_metadata read_model read_weights write_model write_weights",
    "edits": (
        "AddInput ConvertDtype DeepenLayer DeleteBlock DeleteChannels DeleteLayer ExtractModel FlattenModel "
        "FoldBatchNorm InsertLayer KeepChannels MixInputs NestLayers RenameLayer RenameModel ReorderChannels "
        "ReplaceHead ReplaceLayer SetConfig SetInputShape SetOutputs SetTrainable UnshareLayer WidenChannels"
    ),
    "edits.plan": "Plan",
    "graph": "of_class",
    "analysis.channel_flow": "analyse",
    "analysis.coupled_groups": "groups",
    "analysis.layer_costs": "cost",
    "analysis.residual_blocks": "residual_blocks",
    "measure.apoz_scoring": "score_by_apoz",
    "measure.batch_norm_recalibration": "recalibrate_batch_norm",
    "measure.block_scoring": "score_blocks",
    "measure.iterative_pruning": "prune_iteratively",
    "measure.latency_measurement": "measure_latencies",
    "measure.model_pruning": "prune",
    "measure.model_scoring": "importance",
    "measure.sparsity_callbacks": "SparsityTraining",
    "measure.sparsity_penalties": "BatchNormL1 GroupLasso GrowingDecay RelativeDecay",
    "measure.statistics_pass": "measure_statistics",
    "measure.sensitivity_analysis": "sensitivity",
    "pruning.block_scores": "BlockScores",
    "pruning.channel_scores": "Scores",
    "pruning.channel_sensitivity": "Sensitivity load_sensitivity save_sensitivity",
    "pruning.criterion_registry": "criterion",
    "pruning.latency_files": "load_latencies save_latencies",
    "pruning.latency_tables": "LatencyTable",
    "pruning.layer_work": "layer_work",
    "pruning.model_latency": "latency",
    "pruning.pruning_plans": "plan_pruning",
    "pruning.reconstruction": "reconstructed",
    "pruning.score_files": "load_scores save_scores",
    "pruning.statistics_files": "load_statistics save_statistics",
    "report.explanation": "explain",
    "report": "plot_sensitivity plot_widths report_html show",
    "documents.plan_files": "decode encode load_plan save_plan",
    "documents.plan_algebra": "concatenate diff_plans simplify",
    "documents.preconditions": "made_for",
    "differences": "diff load_diff patch save_diff",
    "rules": "rule",
    "measure.rule_probing": "probe_rule",
    "keras_surgeon.job_collector": "Surgeon",
    "errors": (
        "AmbiguousLayer BadData BadDocument BadFile BadScores BadValue BrokenSnapshot BudgetMissed CannotWiden "
        "ChannelOutOfRange ClassNotKept HiddenState InexactCut MisfitTensor MissingData NameTaken NoBatchNorm "
        "NoBlock NoChannels NoHead NotAGraph NotALayer NotASnapshot NotEncodable NotFoldable NotIndependent "
        "NothingLeft OtherModel PartialGroup PinnedChannels SurgeryError TakenNode UnknownCall UnknownCriterion "
        "UnknownEdit UnknownField UnknownGroup UnknownJob UnknownLayer UnknownNode UnknownVersion UnreachableBudget "
        "WrongShape"
    ),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = [
    "AddInput", "AmbiguousLayer", "BadData", "BadDocument", "BadFile", "BadScores", "BadValue", "BatchNormL1",
    "BlockScores", "BrokenSnapshot", "BudgetMissed", "CannotWiden", "ChannelOutOfRange", "ClassNotKept",
    "ConvertDtype", "DeepenLayer", "DeleteBlock", "DeleteChannels", "DeleteLayer", "ExtractModel", "FlattenModel",
    "FoldBatchNorm", "GroupLasso", "GrowingDecay", "HiddenState", "InexactCut", "InsertLayer", "KeepChannels",
    "LatencyTable", "MisfitTensor", "MissingData", "MixInputs", "NameTaken", "NestLayers", "NoBatchNorm",
    "NoBlock", "NoChannels", "NoHead", "NotAGraph", "NotALayer", "NotASnapshot", "NotEncodable", "NotFoldable",
    "NotIndependent", "NothingLeft", "OtherModel", "PartialGroup", "PinnedChannels", "Plan", "RelativeDecay",
    "RenameLayer", "RenameModel", "ReorderChannels", "ReplaceHead", "ReplaceLayer", "Scores", "Sensitivity",
    "SetConfig", "SetInputShape", "SetOutputs", "SetTrainable", "Snapshot", "SparsityTraining", "Surgeon",
    "SurgeryError", "TakenNode", "UnknownCall", "UnknownCriterion", "UnknownEdit", "UnknownField", "UnknownGroup",
    "UnknownJob", "UnknownLayer", "UnknownNode", "UnknownVersion", "UnreachableBudget", "UnshareLayer",
    "WidenChannels", "WrongShape", "analyse", "capture", "concatenate", "cost", "criterion", "decode", "diff",
    "diff_plans", "encode", "explain", "groups", "importance", "latency", "layer_work", "load_diff",
    "load_latencies", "load_plan", "load_scores", "load_sensitivity", "load_statistics", "made_for",
    "measure_latencies", "measure_statistics", "of_class", "patch", "plan_pruning", "plot_sensitivity",
    "plot_widths", "probe_rule", "prune", "prune_iteratively", "read_metadata", "read_model", "read_weights",
    "rebuild", "recalibrate_batch_norm", "reconstructed", "report_html", "residual_blocks", "rule", "save_diff",
    "save_latencies", "save_plan", "save_scores", "save_sensitivity", "save_statistics", "score_blocks",
    "score_by_apoz", "sensitivity", "show", "simplify", "write_model", "write_weights",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports an export when it is first used, so that edits of snapshots never load Keras.

    There is no `__dir__`, so that `help(kerassurgery_fn)` shows the overview above, and not all exports in full.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
