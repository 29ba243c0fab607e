"""Models at work: pruning of a model, APoZ scores from data, rules found by experiments on a layer."""
