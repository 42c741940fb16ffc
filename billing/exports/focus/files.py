"""A bundle as CSV files: all of them, or none."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from billing.exports.focus.bundle import Bundle
from kernel.errors import ByocError, truncate


def render_csv(columns: tuple[str, ...], rows: list[dict[str, str]]) -> str:
    """A header and rows, RFC 4180; a null is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_bundle(bundle: Bundle, folder: Path) -> list[Path]:
    """`FOLDER/NAME.csv` of each data set, the old ones replaced once all are written. Raises ByocError."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (columns, rows) in bundle.items():
            path = folder / f"{name}.csv"
            part = path.with_suffix(".part")
            part.write_text(render_csv(columns, rows), encoding="utf-8", newline="")
            written.append((part, path))
        return [part.replace(path) for part, path in written]
    except OSError as error:
        raise ByocError(f"{truncate(str(folder))} can't be written: {error.strerror}") from error
