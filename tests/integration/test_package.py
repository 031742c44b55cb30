"""The deployment package, as it is built."""

from benchmarks import package
from tests.support import silent


def test_size() -> None:
    unzipped, zipped = package.rows(silent)
    assert unzipped.value < 8
    assert zipped.value < 2.5
