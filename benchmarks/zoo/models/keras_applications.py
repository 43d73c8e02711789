"""Keras applications without weights on small images."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax.numpy as jnp
import keras

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.keras import case

PACKAGES = ["keras"]

MODELS = {
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "MobileNetV3Large": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "ConvNeXtTiny": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "NASNetMobile": 32,
    "VGG16": 32,
    "VGG19": 32,
}
"""The smallest image of each."""

HAND = (
    (r".*layer_scale.*/gamma|.*/layer_scale.*", (), "a scale"),
    (r".*normalization.*", (), "statistics of the inputs"),
)


def entry(name: str, size: int) -> Entry:
    """One application."""

    def build():
        keras.utils.set_random_seed(0)
        keras.backend.clear_session()
        make = getattr(keras.applications, name)
        model = make(weights=None, input_shape=(size, size, 3), classes=10)
        return case(model, jnp.zeros((2, size, size, 3)), hand=HAND, training=False)

    return Entry(name, build)


def entries() -> list[Entry]:
    """All applications that are small enough to be built in seconds."""
    return [entry(name, size) for name, size in MODELS.items()]
