"""`python -m collector`: the collector's commands alone."""

import sys

import typer

from collector.cli import app
from kernel.errors import ByocError, InvalidInput

try:
    app()
except InvalidInput as error:
    typer.echo(str(error), err=True)
    sys.exit(2)
except ByocError as error:
    typer.echo(str(error), err=True)
    sys.exit(1)
