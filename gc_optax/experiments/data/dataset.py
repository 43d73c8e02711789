"""What a data set is in memory, and how each one is described before it is loaded."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gc_optax.experiments.errors import DataError


class Split(NamedTuple):
    """Inputs and labels, one row per example; NumPy arrays until they are put on the device.

    Images are uint8 `(number, height, width, channels)` and their labels int32 `(number,)`. Text
    is int32 tokens `(number, length)`, and its labels, of the same shape, are the next tokens.
    """

    inputs: Any
    labels: Any


class Dataset(NamedTuple):
    """What a network is trained on and what it is tested on.

    `test` is the data set's own, or training examples that `held_out` put aside.
    `mean` and `std`, the standard deviation, are those of each channel over the training pixels,
    float32 `(channels,)`; text has none.
    """

    train: Split
    test: Split
    classes: int
    mean: np.ndarray | None
    std: np.ndarray | None

    @property
    def is_text(self) -> bool:
        """Whether its inputs are tokens, and not pixels."""
        return self.mean is None


class Source(NamedTuple):
    """A data set by what is known before it is loaded.

    `shape` is that of one input, and an `embedded` data set comes with a package and takes no
    folder.
    """

    shape: tuple[int, ...]
    classes: int
    kind: Literal["images", "text"]
    load: Callable[[Path | None, int | None], Dataset]
    embedded: bool = False


def image_dataset(train: Split, test: Split, classes: int) -> Dataset:
    return Dataset(train, test, classes, *moments(train.inputs))


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel; 1 for the deviation of a constant channel."""
    shape = images.shape[1:]
    total, squares = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    # Sums of integers are exact; the square of a uint8 fits a uint16. In blocks, to save memory.
    for start in range(0, len(images), 1000):
        pixels = images[start : start + 1000]
        total += pixels.sum(0, dtype=np.int64)
        squares += np.square(pixels, dtype=np.uint16).sum(0, dtype=np.int64)
    axes = tuple(range(len(shape) - 1))
    total, squares = total.sum(axes), squares.sum(axes)
    number = images.size // shape[-1]
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - mean * mean, 0))
    return mean.astype(np.float32), np.where(std == 0, 1, std).astype(np.float32)


def held_out(dataset: Dataset, number: int, name: str, what: str) -> Dataset:
    """`number` of the training examples, drawn once for all, stand in for the test set.

    The rest keep their order. The moments are of the rest alone, so that nothing is known of what
    is held out.
    """
    available = len(dataset.train.labels)
    if number >= available:
        raise DataError(
            f"--validation-examples {number} leaves nothing to train on of the {available} "
            f"training {what} of {name}."
        )
    held = np.zeros(available, bool)
    held[np.random.default_rng(0).permutation(available)[:number]] = True
    inputs, labels = dataset.train
    train, validation = (Split(inputs[rows], labels[rows]) for rows in (~held, held))
    if dataset.is_text:
        return dataset._replace(train=train, test=validation)
    return image_dataset(train, validation, dataset.classes)


def check_enough(name: str, wanted: int | None, available: int, what: str):
    if wanted is not None and wanted > available:
        raise DataError(
            f"--train-examples {wanted} is more than the {available} training {what} of {name}."
        )


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a `DataError` about `path`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror or error}.") from error
