"""Settings that must be in the environment before anything imports TensorFlow."""

import os

import pytest

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # errors only
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same arithmetic on every machine

pytest.register_assert_rewrite("laws", "trials")


def pytest_addoption(parser):
    group = parser.getgroup("random models")
    group.addoption("--random-models", type=int, default=48, help="how many, of consecutive seeds")
    group.addoption("--random-seed", type=int, default=0, help="the first seed")
    group.addoption("--random-minutes", type=float, default=0, help="of CPU time, in place of a number of models")
