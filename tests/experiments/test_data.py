"""Loading data: what is in the files comes out as it is, and every mistake gets one sentence."""

import io
import os
import re
import socket
import tempfile
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from PIL import Image

from gc_optax.experiments.data import CONTEXT, SOURCES, load
from gc_optax.experiments.errors import DataError

OUTSIDE = os.environ.get("GC_OPTAX_DATA_DIR")
COLUMNS = {
    "fashion_mnist": ("image", "label"),
    "cifar10": ("img", "label"),
    "cifar100": ("img", "fine_label"),
}
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


@pytest.fixture(autouse=True)
def no_data_folder_from_outside(monkeypatch):
    monkeypatch.delenv("GC_OPTAX_DATA_DIR", raising=False)


def pixels_of(number, shape=(32, 32, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, *shape), np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def table(pixels, labels, columns=COLUMNS["cifar100"]):
    contents = [p if p is None or isinstance(p, bytes) else png(p) for p in pixels]
    images = [None if c is None else {"bytes": c, "path": None} for c in contents]
    image, label = columns
    return pa.table(
        {image: pa.array(images, STRUCT), label: labels, "unused": ["x"] * len(contents)}
    )


TRAIN = (pixels_of(3, seed=1), pixels_of(2, seed=2))
TRAIN_LABELS = ([7, 0, 99], [1, 7])
TEST, TEST_LABELS = pixels_of(2, seed=3), [4, 5]
FIRST, SECOND, TEST_FILE = (
    "train-00000-of-00002.parquet",
    "train-00001-of-00002.parquet",
    "test-00000-of-00001.parquet",
)


@pytest.fixture
def cifar100(tmp_path):
    """A folder with five training images in two files and two test images."""
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(table(TRAIN[0], TRAIN_LABELS[0]), folder / FIRST, row_group_size=2)
    pq.write_table(table(TRAIN[1], TRAIN_LABELS[1]), folder / SECOND)
    pq.write_table(table(TEST, TEST_LABELS), folder / TEST_FILE)
    return folder


def check_cifar100(dataset):
    np.testing.assert_array_equal(dataset.train.inputs, np.concatenate(TRAIN))
    assert dataset.train.labels.tolist() == [7, 0, 99, 1, 7]
    np.testing.assert_array_equal(dataset.test.inputs, TEST)
    assert dataset.test.labels.tolist() == [4, 5]
    assert dataset.classes == 100


def moments_of(dataset):
    assert dataset.mean is not None
    assert dataset.std is not None
    return dataset.mean, dataset.std


def refused(match, name="cifar100", data_dir=None, train_examples=None, validation_examples=None):
    """Loading fails with a sentence of one line that matches."""
    with pytest.raises(DataError, match=match) as caught:
        load(name, data_dir, train_examples, validation_examples)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not message.endswith("..")
    return message


# Digits


def test_digits_are_split_into_a_thousand_to_train_and_the_rest_to_test():
    train, test, classes, mean, std = load("digits")
    assert train.inputs.shape == (1000, 8, 8, 1)
    assert test.inputs.shape == (797, 8, 8, 1)
    assert train.inputs.dtype == np.uint8
    assert (train.inputs.min(), train.inputs.max()) == (0, 16)
    assert train.labels.dtype == np.int32
    assert set(train.labels) == set(test.labels) == set(range(classes))
    assert mean == pytest.approx(train.inputs.mean(dtype=np.float64))
    assert std == pytest.approx(train.inputs.std(dtype=np.float64))


def test_digits_take_no_folder_and_ignore_one_for_all_data_sets(monkeypatch, tmp_path):
    refused("digits is embedded in scikit-learn .*: leave --data-dir out", "digits", tmp_path)
    monkeypatch.setenv("GC_OPTAX_DATA_DIR", str(tmp_path))
    assert len(load("digits").train.labels) == 1000


def test_the_first_digits_are_those_of_the_whole():
    whole, part = load("digits"), load("digits", train_examples=10)
    np.testing.assert_array_equal(part.train.inputs, whole.train.inputs[:10])
    assert len(part.test.labels) == 797
    refused("1001 is more than the 1000 training images of digits", "digits", train_examples=1001)


# Held out


def test_what_is_held_out_is_tested_on_and_not_trained_on_and_the_test_set_is_not_there():
    whole, part = load("digits"), load("digits", validation_examples=300)
    assert (len(part.train.labels), len(part.test.labels)) == (700, 300)

    def rows(split):
        return [(image.tobytes(), label) for image, label in zip(*split, strict=True)]

    assert sorted(rows(part.train) + rows(part.test)) == sorted(rows(whole.train))
    train = iter(rows(whole.train))
    assert all(row in train for row in rows(part.train))  # in the order in which they were
    mean, std = moments_of(part)
    assert mean == pytest.approx(part.train.inputs.mean(dtype=np.float64))
    assert std == pytest.approx(part.train.inputs.std(dtype=np.float64))
    assert part.classes == 10


def test_what_is_held_out_is_always_the_same_and_drawn_from_all_of_the_training_set():
    first, second = (load("digits", validation_examples=300) for _ in range(2))
    for a, b in zip(first.test, second.test, strict=True):
        np.testing.assert_array_equal(a, b)
    whole = load("digits")
    assert not np.array_equal(first.test.labels, whole.train.labels[:300])
    assert not np.array_equal(first.test.labels, whole.train.labels[-300:])


def test_of_the_first_training_examples_some_can_be_held_out():
    first = load("digits", train_examples=10)
    part = load("digits", train_examples=10, validation_examples=4)
    assert len(part.train.labels) == 6
    together = np.concatenate([part.train.labels, part.test.labels])
    assert sorted(together) == sorted(first.train.labels)


def test_more_cannot_be_held_out_than_leaves_something_to_train_on(text_file):
    refused("must be at least 1, got 0", "digits", validation_examples=0)
    leaves = "--validation-examples 10 leaves nothing to train on of the 10 training images of"
    refused(leaves, "digits", train_examples=10, validation_examples=10)
    leaves = "28 leaves nothing to train on of the 28 training windows of 64 of shakespeare"
    refused(leaves, "shakespeare", text_file, validation_examples=28)


def test_windows_of_text_can_be_held_out(text_file):
    whole, part = load("shakespeare", text_file), load("shakespeare", text_file, None, 8)
    assert (len(part.train.labels), len(part.test.labels)) == (20, 8)
    assert part.mean is part.std is None
    rows = [row.tobytes() for row in (*part.train.inputs, *part.test.inputs)]
    assert sorted(rows) == sorted(row.tobytes() for row in whole.train.inputs)
    np.testing.assert_array_equal(part.test.inputs[:, 1:], part.test.labels[:, :-1])


# Images


def test_images_and_labels_are_those_of_the_files_in_the_order_of_their_names(cifar100):
    dataset = load("cifar100", cifar100)
    check_cifar100(dataset)
    assert dataset.train.inputs.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int32


@pytest.mark.parametrize("name", COLUMNS)
def test_files_with_what_the_hub_notes_of_them_are_read_for_each_data_set(name, tmp_path):
    source = SOURCES[name]
    pixels = {"train": pixels_of(3, source.shape), "test": pixels_of(2, source.shape, seed=1)}
    labels = {"train": [0, source.classes - 1, 2], "test": [1, 1]}
    note = {"huggingface": '{"info": {"features": {"img": {"_type": "Image"}}}}'}
    for split in pixels:
        rows = table(pixels[split], labels[split], COLUMNS[name])
        pq.write_table(rows.replace_schema_metadata(note), tmp_path / f"{split}.parquet")
    dataset = load(name, tmp_path)
    assert dataset.train.inputs.shape == (3, *source.shape)
    assert dataset.classes == source.classes
    for split, (inputs, found) in {"train": dataset.train, "test": dataset.test}.items():
        np.testing.assert_array_equal(inputs, pixels[split])
        assert found.tolist() == labels[split]


def test_a_folder_may_hold_the_data_set_in_a_folder_of_its_name(cifar100):
    root = cifar100.rename(cifar100.with_name("cifar100")).parent
    check_cifar100(load("cifar100", root))


def test_the_folder_comes_from_the_environment_unless_it_is_passed(cifar100, monkeypatch):
    monkeypatch.setenv("GC_OPTAX_DATA_DIR", str(cifar100))
    check_cifar100(load("cifar100"))
    monkeypatch.setenv("GC_OPTAX_DATA_DIR", "nowhere")
    check_cifar100(load("cifar100", cifar100))
    refused("nowhere does not exist")


@pytest.mark.parametrize("name", ["a[1]*b?", "a b %20 ü", "zip:", "train"])
def test_a_folder_may_have_any_name(cifar100, name):
    check_cifar100(load("cifar100", cifar100.rename(cifar100.with_name(name))))


def test_a_folder_may_be_relative(cifar100, monkeypatch):
    monkeypatch.chdir(cifar100)
    check_cifar100(load("cifar100", Path()))


def test_nothing_is_copied_printed_left_behind_or_asked_of_the_network(
    cifar100, monkeypatch, tmp_path, capfd
):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: asked.append(args))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    check_cifar100(load("cifar100", cifar100))
    (cifar100 / FIRST).write_bytes(b"PAR1")
    refused("could not be read as a Parquet file", data_dir=cifar100)
    assert list(temporary.iterdir()) == []
    assert asked == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_training_images_are_limited_to_the_first(cifar100, number):
    dataset = load("cifar100", cifar100, number)
    np.testing.assert_array_equal(dataset.train.inputs, np.concatenate(TRAIN)[:number])
    assert dataset.train.labels.tolist() == [7, 0, 99, 1, 7][:number]
    assert len(dataset.test.labels) == 2
    assert dataset.mean == pytest.approx(dataset.train.inputs.mean((0, 1, 2)), rel=1e-6)


def test_what_the_limit_leaves_out_is_not_read(cifar100):
    pq.write_table(table([*TRAIN[0][:2], b"broken"], [7, 0, -1]), cifar100 / FIRST)
    (cifar100 / SECOND).write_bytes(b"broken")
    assert load("cifar100", cifar100, 2).train.labels.tolist() == [7, 0]
    refused("Row 2 of .* could not be decoded", data_dir=cifar100, train_examples=3)


def test_an_image_far_too_large_is_refused_before_it_is_decoded(tmp_path):
    content = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(content, "PNG")
    for name in ("train", "test"):
        pq.write_table(table([content.getvalue()], [0]), tmp_path / f"{name}.parquet")
    refused(r"an image of 12000 x 12000 pixels in mode 1: cifar100 has 32 x 32", data_dir=tmp_path)


def test_a_limit_beyond_the_training_set_or_below_one_is_refused(cifar100):
    message = "--train-examples 6 is more than the 5 training images of cifar100"
    refused(message, data_dir=cifar100, train_examples=6)
    refused("--train-examples must be at least 1, got 0", data_dir=cifar100, train_examples=0)


def test_moments_are_those_of_the_training_pixels_of_each_channel(cifar100):
    pixels = np.concatenate(TRAIN).astype(np.float64)
    mean, std = moments_of(load("cifar100", cifar100))
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_has_the_deviation_1(cifar100):
    pixels = pixels_of(3)
    pixels[..., 1] = 77
    pq.write_table(table(pixels, [0, 1, 2]), cifar100 / FIRST)
    mean, std = moments_of(load("cifar100", cifar100, 3))
    assert (mean[1], std[1]) == (77, 1)
    assert (std[[0, 2]] > 70).all()


# Folders and files that are not what they should be


def test_a_folder_that_does_not_exist_is_named_with_what_to_pass(tmp_path):
    assert refused(".", data_dir=tmp_path / "none") == (
        f"The data folder {tmp_path / 'none'} does not exist: pass --data-dir, or set "
        "GC_OPTAX_DATA_DIR to, a folder with the files train-*.parquet and test-*.parquet of "
        "uoft-cs/cifar100, or one with a folder cifar100 that has them."
    )


def test_a_file_is_not_a_folder(cifar100):
    refused(f"{FIRST} is not a folder: pass --data-dir", data_dir=cifar100 / FIRST)


def test_an_empty_folder_has_neither_files(tmp_path):
    message = r"has no train\*\.parquet and no test\*\.parquet: pass --data-dir"
    refused(message, data_dir=tmp_path)
    (tmp_path / "cifar100").mkdir()
    refused(f"cifar100 {message}", data_dir=tmp_path)


@pytest.mark.parametrize(("left", "missing"), [("train", "test"), ("test", "train")])
def test_training_and_test_files_are_both_needed(cifar100, left, missing):
    for path in cifar100.glob(f"{missing}*"):
        path.unlink()
    refused(rf"data has no {missing}\*\.parquet: pass", data_dir=cifar100)


def test_a_missing_one_of_several_files_is_named(cifar100):
    (cifar100 / SECOND).unlink()
    refused(f"has {FIRST} but not {SECOND}: copy or download", data_dir=cifar100)


@pytest.mark.parametrize("damage", ["truncated", "page", "no-parquet", "empty-file"])
def test_a_damaged_file_is_named(cifar100, damage):
    path = cifar100 / SECOND
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "page": content[:4] + b"\xff" * 200 + content[204:],
            "no-parquet": b"<html>Not found</html>" * 10,
            "empty-file": b"",
        }[damage]
    )
    message = refused("could not be read as a Parquet file", data_dir=cifar100)
    assert message.startswith(str(path))
    assert message.endswith("): copy or download it again.")


def test_a_file_or_folder_that_may_not_be_read_is_named(cifar100):
    (cifar100 / SECOND).chmod(0)
    if os.access(cifar100 / SECOND, os.R_OK):
        pytest.skip("who runs the tests may read everything")
    refused(f"{SECOND} could not be read: Permission denied", data_dir=cifar100)
    cifar100.chmod(0)
    try:
        refused("data could not be read: Permission denied", data_dir=cifar100)
        refused(f"{FIRST} could not be read: Permission denied", "shakespeare", cifar100 / FIRST)
    finally:
        cifar100.chmod(0o700)


def gray(pixels):
    return png(pixels[..., :1])


BAD_TABLES = {
    "no rows": (table([], pa.array([], pa.int64())), "FILE has no rows: copy or download it again"),
    "no column of labels": (
        table(TRAIN[1], [1, 7], ("img", "label")),
        "FILE has no column fine_label: cifar100 needs img and fine_label, and the columns there "
        "are img, label, unused",
    ),
    "no column of images": (
        table(TRAIN[1], [1, 7], ("image", "fine_label")),
        "FILE has no column img: cifar100 needs img and fine_label, and the columns there are "
        "image, fine_label, unused",
    ),
    "labels as text": (
        table(TRAIN[1], ["one", "two"]),
        "The column fine_label of FILE has the type string: cifar100 needs integers",
    ),
    "labels as floats": (
        table(TRAIN[1], [1.0, 2.0]),
        "The column fine_label of FILE has the type double: cifar100 needs integers",
    ),
    "images as lists": (
        pa.table({"img": [[1, 2], [3]], "fine_label": [1, 7]}),
        "The column img of FILE has the type list<.*>: cifar100 needs images, struct<bytes: "
        "binary, path: string>",
    ),
    "images by path only": (
        pa.table({"img": [{"path": "a.png"}], "fine_label": [1]}),
        "The column img of FILE has the type struct<path: string>: cifar100 needs images",
    ),
    "images without bytes": (
        pa.table({"img": pa.array([{"path": "a.png"}], STRUCT), "fine_label": [1]}),
        r"Row 0 of FILE has no img \(it is null\)",
    ),
    "a negative label": (
        table(TRAIN[1], [1, -1]),
        "Row 1 of FILE has the fine_label -1: cifar100 has labels from 0 to 99",
    ),
    "a large label": (
        table(TRAIN[1], [100, 1]),
        "Row 0 of FILE has the fine_label 100: cifar100 has labels from 0 to 99",
    ),
    "a huge label": (
        table(TRAIN[1], pa.array([1, 2**64 - 1], pa.uint64())),
        f"Row 1 of FILE has the fine_label {2**64 - 1}: cifar100 has labels from 0 to 99",
    ),
    "no label": (
        table(TRAIN[1], [1, None]),
        r"Row 1 of FILE has no fine_label \(it is null\)",
    ),
    "no image": (
        table([TRAIN[1][0], None], [1, 7]),
        r"Row 1 of FILE has no img \(it is null\)",
    ),
    "an image that is none": (
        table([TRAIN[1][0], b"GIF89a?"], [1, 7]),
        "Row 1 of FILE has an image that could not be decoded: copy or download the file again",
    ),
    "a truncated image": (
        table([png(TRAIN[1][0])[:-600], TRAIN[1][1]], [1, 7]),
        "Row 0 of FILE has an image that could not be decoded: copy or download the file again",
    ),
    "a damaged image": (
        table([TRAIN[1][0], png(TRAIN[1][1]).replace(b"IDAT", b"IDxT")], [1, 7]),
        "Row 1 of FILE has an image that could not be decoded: copy or download the file again",
    ),
    "an image of another size": (
        table([*TRAIN[1], pixels_of(1, (31, 33, 3))[0]], [1, 7, 0]),
        "Row 2 of FILE has an image of 33 x 31 pixels in mode RGB: cifar100 has 32 x 32 pixels in "
        "mode RGB",
    ),
    "a gray image": (
        table([TRAIN[1][0], gray(TRAIN[1][1])], [1, 7]),
        "Row 1 of FILE has an image of 32 x 32 pixels in mode L: cifar100 has 32 x 32 pixels in "
        "mode RGB",
    ),
    "transparent images": (
        table(pixels_of(1, (32, 32, 4)), [1]),
        "Row 0 of FILE has an image of 32 x 32 pixels in mode RGBA: cifar100 has",
    ),
    "a row beyond the first thousand": (
        table([png(TRAIN[1][0])] * 1002, [0] * 1001 + [None]),
        r"Row 1001 of FILE has no fine_label \(it is null\)",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
@pytest.mark.parametrize("name", [SECOND, TEST_FILE])
def test_what_is_wrong_with_one_of_the_files_is_told_by_file_row_and_column(cifar100, case, name):
    # The other files are right, so this is also what changes from one file to the next.
    content, message = BAD_TABLES[case]
    pq.write_table(content, cifar100 / name)
    refused(message.replace("FILE", re.escape(str(cifar100 / name))), data_dir=cifar100)


def test_files_of_another_data_set_are_told_by_their_columns(cifar100):
    refused("has no column image: fashion_mnist needs image and label", "fashion_mnist", cifar100)
    refused("has no column label: cifar10 needs img and label", "cifar10", cifar100)


# The hub


@pytest.fixture
def cached(cifar100, tmp_path, monkeypatch):
    """The folder of the hub's cache that has the data set, where the hub cannot be reached."""
    repository = tmp_path / "hub" / "datasets--uoft-cs--cifar100"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cifar100.rename(repository / "snapshots" / commit / "a folder there")


def test_what_was_loaded_from_the_hub_is_read_from_its_cache_without_it(cached, capfd):
    check_cifar100(load("cifar100"))
    assert load("cifar100", train_examples=4).train.labels.tolist() == [7, 0, 99, 1]
    assert capfd.readouterr() == ("", "")


def test_what_is_wrong_in_the_cache_is_told_by_file_and_row(cached):
    pq.write_table(table(TEST, [4, 100]), cached / TEST_FILE)
    refused(f"Row 1 of {re.escape(str(cached / TEST_FILE))} has the fine_label 100: cifar100 has")
    (cached / SECOND).unlink()
    refused(f"has {FIRST} but not {SECOND}: copy or download")
    (cached / FIRST).unlink()
    refused(r"has no train\*\.parquet and no test\*\.parquet: pass --data-dir")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("Name or service not known\nand more"), "Name or service not known"),
        (OSError(28, "No space left on device"), r"\[Errno 28\] No space left on device"),
        (ValueError(), "ValueError"),
    ],
)
def test_without_the_hub_one_line_says_what_to_pass(monkeypatch, error, reason):
    def fail(*args, **options):
        del args, options
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    refused(
        rf"uoft-cs/cifar100 could not be loaded from the Hugging Face hub \({reason}\): pass "
        r"--data-dir, or set GC_OPTAX_DATA_DIR to, a folder with the files train-\*\.parquet and"
    )


def test_without_network_and_cache_the_hub_itself_leads_to_that_line(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("uoft-cs/cifar100 could not be loaded from the Hugging Face hub .*: pass --data-dir")
    assert capfd.readouterr() == ("", "")


# Text


def text_of(length, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("aé\n€𝄞z"), length))


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes(text_of(2000).encode())
    return path


def test_text_is_cut_into_windows_whose_labels_are_the_next_characters(text_file):
    text = text_of(2000)
    train, test, classes, mean, std = load("shakespeare", text_file)
    characters = sorted(set(text))
    assert classes == len(characters) == 6
    assert mean is std is None
    for split, part in ((train, text[:1800]), (test, text[1800:])):
        number = (len(part) - 1) // CONTEXT
        assert split.inputs.shape == split.labels.shape == (number, CONTEXT)
        assert split.inputs.dtype == split.labels.dtype == np.int32
        inputs = "".join(characters[token] for token in split.inputs.ravel())
        labels = "".join(characters[token] for token in split.labels.ravel())
        assert inputs == part[: number * CONTEXT]
        assert labels == part[1 : number * CONTEXT + 1]


def test_line_ends_are_characters_like_others(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\r\n" * 1000)
    assert load("shakespeare", tmp_path).classes == 3


def test_a_folder_may_have_the_text_under_its_name_or_as_the_only_one(text_file, monkeypatch):
    folder = text_file.parent
    expected = load("shakespeare", text_file).train.inputs
    np.testing.assert_array_equal(load("shakespeare", folder).train.inputs, expected)
    other = folder / "notes.txt"
    other.write_text("x")
    refused("has several text files, input.txt, notes.txt: pass one of them", "shakespeare", folder)
    text_file.rename(folder / "tinyshakespeare.txt")
    np.testing.assert_array_equal(load("shakespeare", folder).train.inputs, expected)
    monkeypatch.setenv("GC_OPTAX_DATA_DIR", str(folder))
    np.testing.assert_array_equal(load("shakespeare").train.inputs, expected)


def test_training_windows_are_limited_to_the_first(text_file):
    whole, part = load("shakespeare", text_file), load("shakespeare", text_file, 3)
    np.testing.assert_array_equal(part.train.inputs, whole.train.inputs[:3])
    np.testing.assert_array_equal(part.train.labels, whole.train.labels[:3])
    assert (len(whole.train.labels), part.classes) == (28, whole.classes)
    refused("29 is more than the 28 training windows", "shakespeare", text_file, train_examples=29)


def test_the_shortest_text_has_one_test_window(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(text_of(641))
    assert load("shakespeare", path).test.inputs.shape == (1, CONTEXT)
    path.write_text(text_of(640))
    refused("640 characters, too few: its last tenth must have at least 65", "shakespeare", path)


def test_without_text_one_line_says_what_to_pass_and_where_it_is_published():
    assert refused(".", "shakespeare") == (
        "shakespeare is not on the Hugging Face hub: pass --data-dir, or set GC_OPTAX_DATA_DIR to, "
        "a text file or a folder that has tinyshakespeare.txt, published as "
        "data/tinyshakespeare/input.txt in karpathy/char-rnn on GitHub."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: pass --data-dir"),
        (b"caf\xe9" * 1000, r"is not UTF-8 text \(byte 3 cannot be decoded\): pass"),
    ],
)
def test_a_file_that_is_no_text_is_refused(text_file, content, message):
    text_file.write_bytes(content)
    refused(rf"input\.txt {message}", "shakespeare", text_file)


def test_a_missing_file_or_a_folder_without_text_is_named(tmp_path):
    refused("none.txt does not exist: pass --data-dir", "shakespeare", tmp_path / "none.txt")
    refused("has no tinyshakespeare.txt and no other .txt file", "shakespeare", tmp_path)


# The real data, where they are at hand


@pytest.fixture
def real_data():
    """The folder of the real data sets, which `GC_OPTAX_DATA_DIR` names."""

    def path_of(name):
        if OUTSIDE is None or not Path(OUTSIDE, name).exists():
            pytest.skip(f"GC_OPTAX_DATA_DIR has no {name}")
        return Path(OUTSIDE)

    return path_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "numbers", "mean", "std"),
    [
        ("cifar100", (50_000, 10_000), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        ("fashion_mnist", (60_000, 10_000), (0.2860,), (0.3530,)),
    ],
)
def test_the_real_images_have_the_published_numbers(name, numbers, mean, std, real_data):
    source, dataset = SOURCES[name], load(name, real_data(name))
    for split, number in zip((dataset.train, dataset.test), numbers, strict=True):
        assert split.inputs.shape == (number, *source.shape)
        assert (np.bincount(split.labels) == number // source.classes).all()
        assert len(np.bincount(split.labels)) == source.classes
    for found, published in zip(moments_of(dataset), (mean, std), strict=True):
        np.testing.assert_allclose(found / 255, published, atol=1e-4)


@pytest.mark.slow
def test_the_first_of_the_real_images_are_read_from_the_first_file(real_data):
    dataset = load("cifar100", real_data("cifar100"), 1000)
    assert dataset.train.inputs.shape == (1000, 32, 32, 3)
    assert dataset.test.inputs.shape == (10_000, 32, 32, 3)


def test_the_real_text_has_the_published_numbers(real_data):
    train, test, classes, _, _ = load("shakespeare", real_data("tinyshakespeare.txt"))
    assert classes == SOURCES["shakespeare"].classes == 65
    characters = 1_115_394
    assert train.inputs.shape == ((characters * 9 // 10 - 1) // CONTEXT, CONTEXT)
    assert len(test.inputs) == (characters - characters * 9 // 10 - 1) // CONTEXT
