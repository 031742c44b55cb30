"""The relations between the bounds: each refuses a value that breaks it."""

from pathlib import Path

import pytest

from ticketing import limits

SOURCE = Path(limits.__file__).read_text()


@pytest.mark.G6
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PURCHASE_BUDGET_SECONDS", 26.0),
        ("CATALOGUE_BUDGET_SECONDS", 26.0),
        ("AUDIT_BUDGET_SECONDS", 26.0),
        ("READ_TIMEOUT_SECONDS", 8),
        ("AUDIT_RESERVE_SECONDS", 20.0),
        ("LATE_COMMIT_SECONDS", 2),
        ("CACHE_SECONDS", 1.1),
        ("QUANTITY_MAX", 99),
        ("SHARDS_MAX", 101),
        ("BATCH_READ_ITEMS_MAX", 99),
    ],
)
def test_broken_relation(name: str, value: float) -> None:
    """A changed source is refused when it is imported, so it cannot be deployed."""
    line = f"\n{name}: Final = {getattr(limits, name)}"
    assert SOURCE.count(line) == 1
    changed = SOURCE.replace(line, f"\n{name}: Final = {value}")
    with pytest.raises(ValueError, match=r"limits\.py"):
        exec(compile(changed, "limits.py", "exec"), {})
