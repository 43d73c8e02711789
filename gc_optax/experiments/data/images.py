"""Images and labels from the Parquet files that data sets have on the Hugging Face hub."""

import contextlib
import functools
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gc_optax.experiments.data import parquet
from gc_optax.experiments.data.dataset import (
    Dataset,
    Source,
    Split,
    check_enough,
    image_dataset,
)
from gc_optax.experiments.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class ImageSchema(NamedTuple):
    """A data set of images: its repository on the hub, its columns, and what they hold."""

    name: str
    repository: str
    image: str
    label: str
    shape: tuple[int, int, int]
    classes: int


def images(schema: ImageSchema) -> Source:
    """The source of a data set with this schema."""
    load = functools.partial(load_images, schema)
    return Source(schema.shape, schema.classes, "images", load)


def load_images(schema: ImageSchema, data_dir: Path | None, train_examples: int | None) -> Dataset:
    """Loads from a folder, or without one from the hub; reads no more rows than it needs."""
    instead = (
        "pass --data-dir, or set GC_OPTAX_DATA_DIR to, a folder with the files train-*.parquet and "
        f"test-*.parquet of {schema.repository}, or one with a folder {schema.name} that has them"
    )
    folder = parquet.download(schema.repository, instead) if data_dir is None else data_dir
    train_files, test_files = parquet.find(folder, schema.name, instead)
    train = _read(schema, train_files, train_examples)
    check_enough(schema.name, train_examples, len(train.labels), "images")
    return image_dataset(train, _read(schema, test_files), schema.classes)


def _read(schema: ImageSchema, files: Iterable[Path], limit: int | None = None) -> Split:
    images, labels, number = [], [], 0
    for part in map(parquet.open_file, files):
        _check_columns(schema, part)
        row = 0
        with contextlib.closing(part.batches):
            for batch in part.batches:
                batch = batch.slice(0, None if limit is None else limit - number)
                images.append(_images(schema, batch, part.name, row))
                labels.append(_labels(schema, batch, part.name, row))
                row += len(batch)
                number += len(batch)
                if number == limit:
                    return Split(np.concatenate(images), np.concatenate(labels))
        if row == 0:
            raise DataError(f"{part.name} has no rows: copy or download it again.")
    return Split(np.concatenate(images), np.concatenate(labels))


def _check_columns(schema: ImageSchema, part: parquet.Part):
    import pyarrow as pa

    columns = {field.name: field.type for field in part.schema}
    for name in (schema.image, schema.label):
        if name not in columns:
            raise DataError(
                f"{part.name} has no column {name}: {schema.name} needs {schema.image} and "
                f"{schema.label}, and the columns there are {', '.join(columns) or 'none'}."
            )
    image, label = columns[schema.image], columns[schema.label]
    if not _holds_images(image):
        raise DataError(
            f"The column {schema.image} of {part.name} has the type {image}: {schema.name} needs "
            "images, struct<bytes: binary, path: string>."
        )
    if not pa.types.is_integer(label):
        raise DataError(
            f"The column {schema.label} of {part.name} has the type {label}: {schema.name} needs "
            "integers."
        )


def _holds_images(column: Any) -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(column) or column.get_field_index("bytes") < 0:
        return False
    content = column.field("bytes").type
    return pa.types.is_binary(content) or pa.types.is_large_binary(content)


def _labels(schema: ImageSchema, batch: "pa.RecordBatch", name: str, first: int) -> np.ndarray:
    labels = batch[schema.label].to_pylist()
    for row, label in enumerate(labels, first):
        if label is None:
            raise DataError(f"Row {row} of {name} has no {schema.label} (it is null).")
        if not 0 <= label < schema.classes:
            raise DataError(
                f"Row {row} of {name} has the {schema.label} {label}: {schema.name} has labels "
                f"from 0 to {schema.classes - 1}."
            )
    return np.array(labels, np.int32)


def _images(schema: ImageSchema, batch: "pa.RecordBatch", name: str, first: int) -> np.ndarray:
    # One after the other: PIL holds the interpreter's lock, and threads made it slower.
    return np.stack(
        [
            _decode(schema, image, f"Row {row} of {name}")
            for row, image in enumerate(batch[schema.image].to_pylist(), first)
        ]
    )


def _decode(schema: ImageSchema, image: dict[str, Any] | None, where: str) -> np.ndarray:
    from PIL import Image

    if image is None or image["bytes"] is None:
        raise DataError(f"{where} has no {schema.image} (it is null).")
    height, width, channels = schema.shape
    mode = "RGB" if channels == 3 else "L"
    broken = f"{where} has an image that could not be decoded: copy or download the file again."
    try:
        with warnings.catch_warnings():
            # Of its size before it is decoded: the next lines refuse it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(image["bytes"]))
    except Image.DecompressionBombError as error:
        raise DataError(f"{where} has an image that is far too large.") from error
    except Exception as error:  # of a broken file, PIL raises SyntaxError and many others
        raise DataError(broken) from error
    if (picture.width, picture.height, picture.mode) != (width, height, mode):
        raise DataError(
            f"{where} has an image of {picture.width} x {picture.height} pixels in mode "
            f"{picture.mode}: {schema.name} has {width} x {height} pixels in mode {mode}."
        )
    try:
        pixels = picture.tobytes()
    except Exception as error:
        raise DataError(broken) from error
    return np.frombuffer(pixels, np.uint8).reshape(schema.shape)
