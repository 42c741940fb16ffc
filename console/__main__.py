"""`python -m console` is `byoc`."""

from console.cli import main

main()
