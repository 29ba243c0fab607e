"""Applies the rules to a graph: channel flow, coupled groups, shapes and dtypes, masks, cost."""
