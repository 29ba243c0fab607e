"""Settings that must be in the environment before anything imports TensorFlow."""

import os

import pytest

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # errors only
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same arithmetic on every machine
# Without AVX-512 TensorFlow leaves oneDNN off, and then has no convolution with channels_first on a CPU.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

pytest.register_assert_rewrite("laws", "trials")
