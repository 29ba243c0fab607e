"""All layer and operation classes of Keras."""

import importlib
import pkgutil

from kerassurgery_fn.rules.registry import key_of


def layer_classes():
    import keras
    from keras.src.legacy import layers as legacy  # tf.keras.layers has them

    found = (getattr(module, name) for module in (keras.layers, legacy) for name in dir(module))
    return {one for one in found if isinstance(one, type) and issubclass(one, keras.layers.Layer)}


def operation_classes():
    import keras.src
    from keras.src.ops.operation import Operation

    for package in (keras.src.ops, keras.src.activations, keras.src.quantizers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("_test"):
                importlib.import_module(module.name)
    return {one for one in subclasses(Operation) if not issubclass(one, keras.layers.Layer)} | {Operation}


def subclasses(cls):
    for one in cls.__subclasses__():
        if one.__module__.startswith("keras.src."):
            yield one
            yield from subclasses(one)


def key_of_class(cls):
    """The name under which a class stands in a config, as Keras writes it."""
    from keras.src.api_export import get_name_from_symbol

    name = get_name_from_symbol(cls) or ""
    module, _, name = (name if name.count(".") > 1 else f"{cls.__module__}.{cls.__name__}").rpartition(".")
    return key_of({"module": module, "class_name": name, "registered_name": None})
