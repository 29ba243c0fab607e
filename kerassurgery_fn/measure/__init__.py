"""Running models and layers: APoZ on data, rules measured on a layer."""
