"""Deletions one after the other give what deletions of newly analysed models give, on every small model."""

from random import Random

import pytest

from helpers.sequences import deleted
from helpers.table_of_models import SMALL_MODELS, small_model
from kerassurgery_fn import capture

pytestmark = pytest.mark.keras


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_deletions_after_others(name):
    for after_others, after_none in deleted(capture(small_model(name)), Random(name)):
        assert after_others == after_none
