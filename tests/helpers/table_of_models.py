"""Every small model of the tests of the laws, by name: each is built once in a process."""

from functools import cache

import keras

from helpers import chain_models, merging_models, nested_models

TABLES = (
    chain_models.EXACT, chain_models.INEXACT, merging_models.MERGES, merging_models.STATES,
    nested_models.SHARED, nested_models.STRUCTURES, nested_models.NESTED,
)  # fmt: skip


SMALL_MODELS = {name: build for table in TABLES for name, build in table.items()}


@cache
def small_model(name: str) -> keras.Model:
    return SMALL_MODELS[name]()
