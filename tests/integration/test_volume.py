"""`make volume`, with a small sale: everything is mended, and a second repair changes nothing."""

import pytest

from benchmarks import volume
from local.dynamodb_local import DynamoDBLocal


@pytest.mark.G4
def test_volume(dynamodb_local: DynamoDBLocal) -> None:
    lines: list[str] = []
    try:
        assert volume.measure(dynamodb_local, volume.RECORDS_MIN // 2, lines.append) == 0, lines
    finally:
        dynamodb_local.client().delete_table(TableName=volume.TABLE)
    assert lines[-1] == "as expected"
