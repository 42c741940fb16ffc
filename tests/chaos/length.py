"""How long the chaos lasts: short in `make test`, long in `make chaos`, which sets CHAOS=long."""

from __future__ import annotations

import os

IS_LONG = os.environ.get("CHAOS") == "long"
STORM_ROUNDS = 60 if IS_LONG else 8
OUTAGE_SECONDS = 600 if IS_LONG else 12  # of the broker
# How long a condition is waited for: many times what it takes on a quiet machine, as this is no benchmark.
PATIENCE_SECONDS = 300
LIMIT_SECONDS = 1800  # of a test
SEED = int(os.environ.get("CHAOS_SEED", "23"))
