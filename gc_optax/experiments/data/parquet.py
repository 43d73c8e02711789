"""Parquet files, in a folder or from the Hugging Face hub: the one boundary to both.

Whatever goes wrong in pyarrow, `huggingface_hub` or the network leaves it as a `DataError`.
"""

import logging
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gc_optax.experiments.data.dataset import readable
from gc_optax.experiments.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1000  # a batch in memory, beside the decoded images


class Part(NamedTuple):
    """The rows of one file, in batches read one after the other."""

    name: str
    schema: "pa.Schema"
    batches: "Generator[pa.RecordBatch]"


def open_file(path: Path) -> Part:
    """Opens a Parquet file, to be read as it is iterated over."""
    import pyarrow.parquet as pq  # slow to import

    def batches() -> "Generator[pa.RecordBatch]":
        try:
            with path.open("rb") as file:
                yield from pq.ParquetFile(file).iter_batches(_ROWS)
        except Exception as error:
            raise _unreadable(path, error) from error

    with readable(path), path.open("rb") as file:
        try:
            schema = pq.read_schema(file)
        except Exception as error:
            raise _unreadable(path, error) from error
    return Part(str(path), schema, batches())


def download(repository: str, instead: str) -> Path:
    """The folder with the files of a data set on the hub, or with those that its cache has.

    `instead` says what else can be done.
    """
    import huggingface_hub  # slow to import
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils.logging import set_verbosity

    disable_progress_bars()
    set_verbosity(logging.CRITICAL)  # errors are raised, too; warnings are about retries and caches
    try:
        folder = huggingface_hub.snapshot_download(
            repository, repo_type="dataset", allow_patterns="*.parquet"
        )
    except Exception as error:
        raise DataError(
            f"{repository} could not be loaded from the Hugging Face hub ({_reason(error)}): "
            f"{instead}."
        ) from error
    # The files are in a folder with a name of its own.
    return next((path.parent for path in Path(folder).rglob("train*.parquet")), Path(folder))


def find(folder: Path, name: str, instead: str) -> tuple[list[Path], list[Path]]:
    """The training and the test files in `folder`, or in its subfolder `name`."""
    with readable(folder):
        if not folder.exists():
            raise DataError(f"The data folder {folder} does not exist: {instead}.")
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: {instead}.")
        train, test = _files(folder)
        if not train and not test and (folder / name).is_dir():
            folder = folder / name
            train, test = _files(folder)
    missing = " and no ".join(
        f"{split}*.parquet" for split, files in (("train", train), ("test", test)) if not files
    )
    if missing:
        raise DataError(f"{folder} has no {missing}: {instead}.")
    for files in (train, test):
        _check_complete(folder, files)
    return train, test


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    files = sorted(path for path in folder.iterdir() if path.name.endswith(".parquet"))
    return (
        [path for path in files if path.name.startswith("train")],
        [path for path in files if path.name.startswith("test")],
    )


def _check_complete(folder: Path, files: list[Path]):
    """The hub's names say how many files there are, so that none can be missing unnoticed."""
    names = {path.name for path in files}
    for name in sorted(names):
        if numbers := re.fullmatch(r"(.*-)(\d{5})-of-(\d{5})\.parquet", name):
            start, _, total = numbers.groups()
            expected = {f"{start}{i:05}-of-{total}.parquet" for i in range(int(total))}
            if absent := sorted(expected - names):
                raise DataError(
                    f"{folder} has {name} but not {', '.join(absent)}: copy or download the "
                    "missing files too."
                )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} could not be read as a Parquet file ({_reason(error)}): copy or download it again."
    )


def _reason(error: BaseException) -> str:
    """The innermost cause in one line; `huggingface_hub` wraps what the network says."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
