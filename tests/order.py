"""Which worker runs what: tests of a file stay together, and whatever takes longest begins first.

A file's tests share its servers and worlds. Where each kind of storage has its own and they take minutes, they are
apart: else one worker would still be at it long after the others have ended.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadFileScheduling

# On two cores; what is not here takes less than twelve seconds. Nothing but the order depends on it.
SECONDS = {
    "tests/acceptance/test_scenario.py[scale_out]": 210,
    "tests/acceptance/test_scenario.py[embedded]": 150,
    "tests/chaos/test_crashes.py[scale_out]": 190,
    "tests/chaos/test_month.py": 240,
    "tests/chaos/test_storm.py[scale_out]": 125,
    "tests/provisioner/test_durable.py": 110,
    "tests/chaos/test_network.py": 90,
    "tests/gateway/test_foreign_senders.py": 85,
    "tests/chaos/test_storm.py[embedded]": 85,
    "tests/provisioner/test_milvus.py": 75,
    "tests/chaos/test_gaps.py": 75,
    "tests/chaos/test_crashes.py[embedded]": 70,
    "tests/lake/test_second_engine.py": 58,
    "tests/lake/test_scaled.py": 50,
    "tests/chaos/test_replay.py[scale_out]": 50,
    "tests/chaos/test_clocks.py": 48,
    "tests/gateway/test_workers.py": 45,
    "tests/alerts/test_crashes.py": 45,
    "tests/lake/test_beside.py": 43,
    "tests/chaos/test_disks.py": 43,
    "tests/lake/test_crash.py": 37,
    "tests/chaos/test_reservation.py": 36,
    "tests/contracts/test_log.py": 34,
    "tests/lake/test_frames.py": 32,
    "tests/services/test_services.py": 27,
    "tests/meters/test_rollups.py": 25,
    "tests/billing/test_batch.py": 20,
    "tests/chaos/test_replay.py[embedded]": 20,
    "tests/collector/test_spool_machine.py": 19,
    "tests/provisioner/test_cli.py": 18,
    "tests/gateway/test_compiled.py": 18,
    "tests/house/test_wheel.py": 17,
    "tests/collector/test_against_prometheus.py": 16,
    "tests/collector/test_real_gateway.py": 16,
    "tests/gateway/test_crash.py": 15,
    "tests/collector/test_outage.py": 15,
    "tests/collector/test_target_state.py": 14,
    "tests/kernel/test_kafka_log.py": 13,
}
_APART = {name.partition("[")[0] for name in SECONDS if name.endswith("]")}


def scope(nodeid: str) -> str:
    """What runs in one piece: the file, or of a file in parts the tests of one kind of storage."""
    path = nodeid.partition("::")[0]
    storage = re.search(r"\[(?:.*-)?(embedded|scale_out)\]", nodeid)
    return f"{path}[{storage[1]}]" if storage and path in _APART else path


def seconds(nodeid: str) -> int:
    """What its scope is known to take, 0 of most."""
    return SECONDS.get(scope(nodeid), 0)


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """`--dist loadfile`, which by itself begins with the files of most tests."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)

    def schedule(self) -> None:
        if self.collection is None:
            self.config.option.loadscopereorder = False
        super().schedule()
