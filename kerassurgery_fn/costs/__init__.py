"""What a model costs: its parameters, the multiply-accumulates of one sample, and the bytes of its weights."""

from kerassurgery_fn.costs import products
from kerassurgery_fn.costs.counting import Cost, LayerCost, cost, cost_of
from kerassurgery_fn.costs.table import MACS, Use, macs

__all__ = ["MACS", "Cost", "LayerCost", "Use", "cost", "cost_of", "macs", "products"]
