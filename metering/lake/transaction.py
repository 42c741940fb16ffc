"""A transaction of pyiceberg that makes the table's metadata once for each change."""

from __future__ import annotations

from typing import Any

from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata


class FrugalTransaction(Transaction):
    """pyiceberg copies all of the metadata whenever it looks at it, some twenty times for one commit.

    Nothing changes what was made: an update of the transaction makes the next.
    """

    _made: tuple[Any, Any, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The metadata with the updates so far."""
        base = self._table.metadata
        if self._made is None or self._made[0] is not base or self._made[1] is not self._updates:
            self._made = base, self._updates, super().table_metadata
        return self._made[2]
