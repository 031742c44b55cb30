"""The functions' settings, read once from the environment."""

import os
from collections.abc import Mapping

from msgspec import Struct


class Settings(Struct, frozen=True):
    """table_name: the table that holds sales, stock and purchases."""

    table_name: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings. Raises KeyError with the name of a missing variable.

        There is no default: a guessed table name would sell from another table.
        """
        return cls(table_name=environment["TABLE_NAME"])
