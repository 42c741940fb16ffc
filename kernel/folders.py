"""A folder that a command will write to, looked at before the command does what can't be undone."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kernel.errors import InvalidInput


def check_writable(folder: Path, option: str) -> None:
    """Raise InvalidInput unless files can be made in the folder, or the folder in the one above it.

    Makes nothing that stays.
    """
    allowed = "a folder that can be written to, or the name of a new one in such a folder"
    nearest = folder.absolute()
    try:
        while not (nearest.exists() or nearest.is_symlink()):
            nearest = nearest.parent
        if not nearest.is_dir():
            raise InvalidInput.single("command line", option, f"{folder}: {nearest} is no folder", allowed)
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InvalidInput.single(
            "command line", option, f"{folder}: {error.strerror or error}", allowed
        ) from error
