"""Write docs/proof.svg: the result of a real run of the proof, as a picture for the README.

make picture
"""

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "proof.svg"
TEST = 2  # the original system's: 1,000 buyers, 100 tickets
COLUMNS = 84


def result_lines(output: str) -> list[str]:
    """Return the title, the checks and the verdict of the test."""
    lines = output.splitlines()
    title = next(line for line in lines if line.startswith(f"TEST {TEST}:"))
    first = lines.index("VERIFICATION:")
    last = next(number for number, line in enumerate(lines) if line.startswith(f"TEST {TEST} "))
    return ["$ make prove", "…", title, "", *lines[first : last + 1]]


def styled(line: str) -> Text:
    if line.lstrip().startswith("✓"):
        indent, _, text = line.partition("✓ ")
        return Text.assemble(indent, ("✓ ", "green"), text)
    return Text(line, style="bold" if line.startswith(("TEST", "VERIFICATION")) else "")


def picture(lines: list[str]) -> str:
    """Return the lines as SVG, without fonts of another host."""
    console = Console(record=True, width=COLUMNS, file=StringIO())
    for line in lines:
        console.print(styled(line), soft_wrap=True, highlight=False)
    drawn = console.export_svg(title="make prove", theme=DIMMED_MONOKAI, unique_id="proof")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def main() -> None:
    """Run the test at the URL that is given, and write the picture."""
    finished = subprocess.run(
        [sys.executable, "-m", "proof", "--only", str(TEST), *sys.argv[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(finished.stdout + finished.stderr)
    PICTURE.write_text(picture(result_lines(finished.stdout)))
    print(f"Wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
