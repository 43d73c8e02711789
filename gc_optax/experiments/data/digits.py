"""Scikit-learn's handwritten digits, which come with the package."""

from pathlib import Path

import numpy as np

from gc_optax.experiments.data.dataset import (
    Dataset,
    Split,
    check_enough,
    image_dataset,
)
from gc_optax.experiments.errors import DataError


def load_digits(data_dir: Path | None, train_examples: int | None) -> Dataset:
    """1,797 scanned digits of 8 x 8 pixels from 0 to 16: 1,000 to train, 797 to test."""
    if data_dir is not None:
        raise DataError(
            f"digits is embedded in scikit-learn and is not read from {data_dir}: leave --data-dir "
            "out."
        )
    from sklearn.datasets import load_digits as load  # slow to import

    images, labels = load(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.uint8)
    labels = labels.astype(np.int32)
    # The file is ordered by writer. The split is the same for all seeds of a run: they differ in
    # the initial weights and in the order of the training images.
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1000], order[1000:]
    check_enough("digits", train_examples, len(train), "images")
    train = train[:train_examples]
    return image_dataset(
        Split(images[train], labels[train]), Split(images[test], labels[test]), classes=10
    )
