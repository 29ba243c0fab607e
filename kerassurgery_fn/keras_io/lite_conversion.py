"""Models in the format of TensorFlow Lite."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from kerassurgery_fn.errors import BadFile
from kerassurgery_fn.keras_io.rebuilding import rebuild
from kerassurgery_fn.values.snapshot import Snapshot


def to_tflite(snapshot: Snapshot, quantize: str | None = None) -> bytes:
    """A model as a file of TensorFlow Lite, for inference. The state of the optimizer is left out.

    Args:
        snapshot: the model.
        quantize: how weights are stored: "float16", "int8" (the activations stay floats), or None for what they are.

    Raises:
        ImportError: TensorFlow is not installed.
        BadFile: TensorFlow cannot export the model, or TensorFlow Lite does not have an operation of it.
    """
    import tensorflow as tf

    model = rebuild(snapshot)
    try:
        with TemporaryDirectory() as folder:
            model.export(folder, verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if quantize is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantize == "float16":
                converter.target_spec.supported_types = [tf.float16]
            return converter.convert()
    except Exception as error:  # the converter raises errors of its own, of many lines
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadFile(f"TensorFlow Lite cannot convert {snapshot.name!r}: {reason[:300]}") from error
