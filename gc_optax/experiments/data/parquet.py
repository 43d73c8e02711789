"""Tables from Parquet files and from the Hugging Face hub: the one boundary to `datasets`.

Whatever goes wrong in `datasets`, pyarrow or the network leaves this module as a `DataError`.
"""

import glob
import logging
import re
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gc_optax.experiments.data.dataset import readable
from gc_optax.experiments.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1000  # a table in memory, beside the decoded images


class Part(NamedTuple):
    """Rows in one place, a file or a split on the hub, in tables read one after the other."""

    name: str
    schema: "pa.Schema"
    tables: "Generator[pa.Table]"


def open_file(path: Path) -> Part:
    """Opens a Parquet file, to be read as it is iterated over."""
    datasets = _quiet_datasets()
    with readable(path), path.open("rb"):
        pass
    try:
        # Nothing is copied: the file is read where it is, and the cache that `datasets` asks for
        # stays empty. `load_dataset` would do the same, and tell the hub's download count.
        with tempfile.TemporaryDirectory(prefix="gc-optax-") as cache:
            dataset = datasets.IterableDataset.from_parquet(
                glob.escape(str(path.absolute())), batch_size=_ROWS, cache_dir=cache
            )
    except Exception as error:
        raise _unreadable(path, error) from error
    return _part(str(path), dataset, lambda error: _unreadable(path, error))


def open_hub(repository: str, instead: str) -> tuple[Part, Part]:
    """The splits train and test on the hub, or in its cache; `instead` says what else to do."""
    datasets = _quiet_datasets()

    def failed(error: Exception) -> DataError:
        return DataError(
            f"{repository} could not be loaded from the Hugging Face hub ({_reason(error)}): "
            f"{instead}."
        )

    try:
        both = datasets.load_dataset(repository)
        train, test = both["train"], both["test"]
    except Exception as error:
        raise failed(error) from error
    return (
        _part(f"{repository}, split train", train, failed),
        _part(f"{repository}, split test", test, failed),
    )


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


def _quiet_datasets() -> Any:
    import datasets  # slow to import
    import huggingface_hub

    datasets.disable_progress_bars()
    huggingface_hub.utils.disable_progress_bars()
    # Their errors are raised too, and their warnings are about retries and caches.
    for package in (datasets, huggingface_hub):
        package.logging.set_verbosity(logging.CRITICAL)
    return datasets


def _part(name: str, dataset: Any, failed: Callable[[Exception], DataError]) -> Part:
    def tables() -> "Generator[pa.Table]":
        try:
            yield from dataset.with_format("arrow").iter(batch_size=_ROWS)
        except Exception as error:
            raise failed(error) from error

    return Part(name, dataset.features.arrow_schema, tables())


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} could not be read as a Parquet file ({_reason(error)}): copy or download it again."
    )


def _reason(error: BaseException) -> str:
    """The innermost cause in one line; `datasets` wraps some errors in ones that say nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
