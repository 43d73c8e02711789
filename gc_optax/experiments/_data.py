"""Data sets: images and labels in memory, standardised."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Split(NamedTuple):
    """Images `(number, height, width, channels)` in float32, labels `(number,)` in int32.

    The fields hold NumPy arrays until they are put on the device.
    """

    images: Any
    labels: Any


class Dataset(NamedTuple):
    """What a network is trained on and what it is tested on."""

    train: Split
    test: Split


class Source(NamedTuple):
    """A data set by its shape, which is known before it is loaded."""

    shape: tuple[int, int, int]
    classes: int
    load: Callable[[], Dataset]


def load_digits() -> Dataset:
    """Scikit-learn's 1,797 scanned digits of 8 x 8 pixels: 1,000 to train, 797 to test."""
    from sklearn.datasets import load_digits as load  # slow to import

    images, labels = load(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.float32)
    # The file is ordered by writer. The split is the same for all seeds of a run: they differ in
    # the initial weights and in the order of the training images.
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1000], order[1000:]
    images = standardise(images, images[train])
    labels = labels.astype(np.int32)
    return Dataset(Split(images[train], labels[train]), Split(images[test], labels[test]))


def standardise(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Shifts and scales each channel by the mean and standard deviation that it has in `train`."""
    axes = tuple(range(train.ndim - 1))
    mean = train.mean(axes, keepdims=True, dtype=np.float64)
    deviation = train.std(axes, keepdims=True, dtype=np.float64)
    return ((images - mean) / deviation).astype(np.float32)


SOURCES = {"digits": Source((8, 8, 1), 10, load_digits)}
