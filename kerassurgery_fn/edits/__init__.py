"""The edits, one family a file: frozen dataclasses that are functions from snapshot to snapshot."""

from kerassurgery_fn.edits.base import EDITS, Edit, edit
from kerassurgery_fn.edits.blocks import DeleteBlock
from kerassurgery_fn.edits.deepening import DeepenLayer
from kerassurgery_fn.edits.deletion import ChannelEdit, DeleteChannels, KeepChannels
from kerassurgery_fn.edits.ends import AddInput, SetOutputs
from kerassurgery_fn.edits.extraction import ExtractModel
from kerassurgery_fn.edits.folding import FoldBatchNorm
from kerassurgery_fn.edits.heads import ReplaceHead
from kerassurgery_fn.edits.inputs import SetInputShape
from kerassurgery_fn.edits.insertion import InsertLayer
from kerassurgery_fn.edits.layers import DeleteLayer, ReplaceLayer, UnshareLayer
from kerassurgery_fn.edits.mixing import MixInputs
from kerassurgery_fn.edits.nesting import FlattenModel, NestLayers
from kerassurgery_fn.edits.precision import ConvertDtype
from kerassurgery_fn.edits.reordering import ReorderChannels
from kerassurgery_fn.edits.settings import RenameLayer, RenameModel, SetConfig, SetTrainable
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.widening import WidenChannels

__all__ = [
    "AddInput", "ChannelEdit", "ConvertDtype", "DeepenLayer", "DeleteBlock", "DeleteChannels", "DeleteLayer",
    "Draft", "EDITS", "Edit", "ExtractModel", "FlattenModel", "FoldBatchNorm", "GraphEdit", "InsertLayer",
    "KeepChannels", "MixInputs", "NestLayers", "RenameLayer", "RenameModel", "ReorderChannels", "ReplaceHead",
    "ReplaceLayer", "SetConfig", "SetInputShape", "SetOutputs", "SetTrainable", "UnshareLayer", "WidenChannels",
    "edit",
]  # fmt: skip
