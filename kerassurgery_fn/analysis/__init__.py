"""Rules applied to a graph: channel flow, coupled groups, shapes and dtypes, masks, cost."""
