"""Data sets: images and text in memory as NumPy arrays, as they are in their files."""

import os
from pathlib import Path

from gc_optax.experiments.data.dataset import Dataset, Source, Split, held_out
from gc_optax.experiments.data.digits import load_digits
from gc_optax.experiments.data.images import ImageSchema, images
from gc_optax.experiments.data.text import CONTEXT, load_shakespeare
from gc_optax.experiments.errors import DataError

__all__ = ["CONTEXT", "SOURCES", "DataError", "Dataset", "Source", "Split", "load"]

SOURCES = {
    "digits": Source((8, 8, 1), 10, "images", load_digits, embedded=True),
    "fashion_mnist": images(
        ImageSchema(
            "fashion_mnist", "zalando-datasets/fashion_mnist", "image", "label", (28, 28, 1), 10
        )
    ),
    "cifar10": images(
        ImageSchema("cifar10", "uoft-cs/cifar10", "img", "label", (32, 32, 3), 10),
    ),
    "cifar100": images(
        ImageSchema("cifar100", "uoft-cs/cifar100", "img", "fine_label", (32, 32, 3), 100),
    ),
    "shakespeare": Source((CONTEXT,), 65, "text", load_shakespeare),
}


def load(
    name: str,
    data_dir: Path | None = None,
    train_examples: int | None = None,
    validation_examples: int | None = None,
) -> Dataset:
    """Loads the data set `name` of `SOURCES`.

    Args:
        name: A key of `SOURCES`.
        data_dir: Where its files are; by default what `GC_OPTAX_DATA_DIR` says, and without that
            the Hugging Face hub. An embedded data set takes none.
        train_examples: How many of the first training examples to keep; by default all.
        validation_examples: How many of those to hold out, to be the test set of what is given
            back. By default none, and it is the data set's own.

    Raises:
        DataError: The data are not there, or are not what they should be.
    """
    source = SOURCES[name]
    for option, number in (
        ("--train-examples", train_examples),
        ("--validation-examples", validation_examples),
    ):
        if number is not None and number < 1:
            raise DataError(f"{option} must be at least 1, got {number}.")
    if data_dir is None and not source.embedded and os.environ.get("GC_OPTAX_DATA_DIR"):
        data_dir = Path(os.environ["GC_OPTAX_DATA_DIR"])
    dataset = source.load(data_dir, train_examples)
    if validation_examples is None:
        return dataset
    what = "images" if source.kind == "images" else f"windows of {CONTEXT}"
    return held_out(dataset, validation_examples, name, what)
