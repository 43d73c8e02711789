"""Text for a model that predicts the next character."""

from pathlib import Path

import numpy as np

from gc_optax.experiments.data.dataset import (
    Dataset,
    Split,
    check_enough,
    readable,
)
from gc_optax.experiments.errors import DataError

CONTEXT = 64
_FILE = "tinyshakespeare.txt"
_INSTEAD = (
    f"pass --data-dir, or set GC_OPTAX_DATA_DIR to, a text file or a folder that has {_FILE}, "
    "published as data/tinyshakespeare/input.txt in karpathy/char-rnn on GitHub"
)


def load_shakespeare(data_dir: Path | None, train_examples: int | None) -> Dataset:
    """Windows of `CONTEXT` characters that do not overlap: 90% of the text to train, then test.

    A token is the place of its character in the sorted distinct characters of the whole text.
    """
    if data_dir is None:
        raise DataError(f"shakespeare is not on the Hugging Face hub: {_INSTEAD}.")
    path = _find(data_dir)
    with readable(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start} cannot be decoded): {_INSTEAD}."
        ) from error
    if not text:
        raise DataError(f"{path} is empty: {_INSTEAD}.")
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    characters, tokens = np.unique(codes, return_inverse=True)
    tokens = tokens.astype(np.int32)
    end = len(tokens) * 9 // 10
    train, test = _windows(tokens[:end]), _windows(tokens[end:])
    if not len(train.inputs) or not len(test.inputs):
        raise DataError(
            f"{path} has {len(tokens)} characters, too few: its last tenth must have at least "
            f"{CONTEXT + 1}."
        )
    check_enough("shakespeare", train_examples, len(train.inputs), f"windows of {CONTEXT}")
    train = Split(train.inputs[:train_examples], train.labels[:train_examples])
    return Dataset(train, test, len(characters), None, None)


def _find(data_dir: Path) -> Path:
    with readable(data_dir):
        if not data_dir.exists():
            raise DataError(f"{data_dir} does not exist: {_INSTEAD}.")
        if not data_dir.is_dir():
            return data_dir
        for folder in (data_dir, data_dir / "shakespeare"):
            if (folder / _FILE).is_file():
                return folder / _FILE
        files = sorted(path for path in data_dir.iterdir() if path.name.endswith(".txt"))
    if not files:
        raise DataError(f"{data_dir} has no {_FILE} and no other .txt file: {_INSTEAD}.")
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{data_dir} has several text files, {names}: pass one of them.")
    return files[0]


def _windows(tokens: np.ndarray) -> Split:
    number = (len(tokens) - 1) // CONTEXT
    length = number * CONTEXT
    return Split(
        tokens[:length].reshape(number, CONTEXT), tokens[1 : length + 1].reshape(number, CONTEXT)
    )
