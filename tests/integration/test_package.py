"""The deployment package. It is built here: tests that build share a process, and so the folder."""

from benchmarks import package
from tests.support import ROOT, silent


def test_size() -> None:
    unzipped, zipped = package.rows(silent)
    assert unzipped.value < 8
    assert zipped.value < 2.5


def test_no_other_test_builds() -> None:
    """`sam build` replaces the folder that other tests deploy from."""
    building = {
        path.parent.name
        for path in ROOT.glob("tests/*/test_*.py")
        if "sam.build()" in path.read_text() or "package.rows" in path.read_text()
    }
    assert building == {"integration"}
