"""The deployment package: how large it is, and what fills it. `sam build` makes it."""

import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.report import Progress, Row
from local import sam

PACKAGES_SHOWN: Final = 3
HOW: Final = "files of `sam build`; boto3 is not in it, because Lambda's Python brings it"


def rows(progress: Progress) -> Iterator[Row]:
    """Build the functions, and measure the largest package. Megabytes are millions of bytes."""
    progress("sam build")
    sam.build()
    progress("packages")
    packages = [folder for folder in sam.build_directory().iterdir() if folder.is_dir()]
    largest = max(packages, key=lambda package: contents(package).total())
    sizes = contents(largest)
    shown = ", ".join(
        f"{name} {size / 1e6:.1f}" for name, size in sizes.most_common(PACKAGES_SHOWN)
    )
    yield Row(f"package, unzipped ({shown})", round(sizes.total() / 1e6, 2), "MB", HOW)
    yield Row("package, zipped", round(_zipped_bytes(largest) / 1e6, 2), "MB", HOW)


def contents(package: Path) -> Counter[str]:
    """Return the bytes of each package or module at the top, its metadata included."""
    sizes: Counter[str] = Counter()
    for file in _files(package):
        top = file.relative_to(package).parts[0].removesuffix(".py")
        sizes[top.partition("-")[0]] += file.stat().st_size
    return sizes


def _zipped_bytes(package: Path) -> int:
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in _files(package):
                archive.write(each, each.relative_to(package))
        return file.tell()


def _files(package: Path) -> Sequence[Path]:
    return [path for path in package.rglob("*") if path.is_file()]
