import pyarrow.parquet as pq
import pytest

from tests.experiments.test_data import pixels_of, table


@pytest.fixture(scope="session")
def tiny_cifar100(tmp_path_factory):
    """A folder of 8 training and 4 test images of noise."""
    folder = tmp_path_factory.mktemp("data") / "cifar100"
    folder.mkdir()
    pq.write_table(table(pixels_of(8, seed=1), range(8)), folder / "train.parquet")
    pq.write_table(table(pixels_of(4, seed=2), range(4)), folder / "test.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory):
    """A text of 20 sentences, all the same."""
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, and then it sleeps.\n" * 20)
    return path
