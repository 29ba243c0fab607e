"""The environment of the tests, set as this is imported: before anything imports numpy or TensorFlow."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # errors only
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same arithmetic on every machine
# Without AVX-512 TensorFlow leaves oneDNN off, and then it has no convolution with channels_first on a CPU.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The models are tiny and pytest runs one worker on each core: more threads would only wait for each other.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(threads, "1")
