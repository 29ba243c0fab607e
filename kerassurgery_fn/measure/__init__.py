"""Running models and layers: APoZ scores from data, rules found by experiments on a layer."""
