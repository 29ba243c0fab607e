"""Findings that are known.

Each is a pattern that `law: edit words` of a finding has, and what is wrong.
"""

import re

# Yet to be mended: none is to be left here. Once one is mended, its line goes.
KNOWN: dict[str, str] = {}
# What Keras itself cannot do when a model is run, though it builds the model.
OF_KERAS = {
    r"The `mask` must be broadcastable to `inputs`": "Softmax of a tensor with a mask of fewer axes",
    r"The total size of the tensor must be unchanged.*Reshape.call": "Reshape of a size that is open",
    r"Reshape.call.*requested shape requires a multiple of": "Reshape of a size that is open",
    r"Embedding\.call.*indices\[[\d,]*\] = -?\d+ is not in \[0, \d+\)": "indices that a layer before it has changed",
    r"ConcatOp : Dimension \d+ in both shapes must be equal": "Concatenate of an open size and another size",
    r"'T' of double is not in the list of allowed values: half, bfloat16, float\s.*Op<name=MaxPool3D": (
        "MaxPooling3D in float64 on TensorFlow"
    ),
    r"cannot compute Pack as input .* expected to be a float tensor but is a (bfloat16|half|double)": (
        "a step of training, where a regularizer's loss is of a layer's dtype that is not float32"
    ),
    r"SetOutputs.*No gradients provided for any variable": (
        "a step of training, where no output with a loss depends on trainable weights"
    ),
}


def is_known(finding: object) -> bool:
    return any(re.search(pattern, str(finding), re.DOTALL) for pattern in (*KNOWN, *OF_KERAS))
