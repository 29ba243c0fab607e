"""Models at work: pruning of a model, statistics of data for criteria, rules found by experiments on a layer."""
