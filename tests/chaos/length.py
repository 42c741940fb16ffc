"""How long the chaos lasts: short in `make test`, long in `make chaos`, which sets CHAOS=long."""

from __future__ import annotations

import os

IS_LONG = os.environ.get("CHAOS") == "long"
STORM_ROUNDS = 60 if IS_LONG else 8
OUTAGE_SECONDS = 600 if IS_LONG else 12  # of the broker
PATIENCE_SECONDS = 300 if IS_LONG else 120
SEED = int(os.environ.get("CHAOS_SEED", "23"))
