"""Benchmarks: `python -m bench NAME [--quick]`. Never run as tests; see docs/performance.md for what they found."""
