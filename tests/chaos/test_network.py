"""The wire between the VPC and the vendor: it loses, it is cut for a day, certificates end in mid-stream.

The collector's host may only call out to port 443 of the gateway; its firewall drops all else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.length import LIMIT_SECONDS
from tests.chaos.network import Network, open_network
from tests.chaos.program import until
from tests.chaos.storage import EMBEDDED
from tests.chaos.world import World, open_world
from tests.services.fixtures import Services

DAY = 86_400
pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SECONDS)]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with ExitStack() as stack:
        yield Services(stack).start(open_network())


@pytest.fixture(scope="module")
def world(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("far-apart"), EMBEDDED, network) as opened:
        yield opened


def pages(world: World, more: int) -> None:
    """Wait until the first target has handed out that many pages more."""
    before = len(world.targets[0].pages)
    until(f"{more} pages", lambda: len(world.targets[0].pages) >= before + more)


def test_the_way_out_is_443_alone(world: World, network: Network) -> None:
    """What the rest of this file relies on."""
    world.ensure_running()
    assert network.reaches(443)
    assert not network.reaches(80)


def test_three_of_ten_packets_lost(world: World, network: Network) -> None:
    world.ensure_running()
    network.lose(30)
    pages(world, 12)
    world.drained()
    world.expect_clean(after="12 pages over a wire that loses")
    network.mend()


def test_a_cut_of_a_day_over_the_end_of_the_certificate(world: World, network: Network) -> None:
    """Only the age of what waits is virtual: both clocks step a day while nothing passes."""
    world.ensure_running()
    network.cut()
    pages(world, 6)
    for clock in (world.clock, world.vendor_clock):
        clock.step_to(DAY)
    pages(world, 6)
    network.mend()
    world.drained()
    world.expect_clean(after="a cut of a day")
    assert "renewed" in world.collector.said()


def test_certificates_of_some_seconds_end_while_samples_flow(
    world: World, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Five lives of the collector's certificate over a wire that loses, and one that ends while it is cut."""
    world.close()  # its gateway has the port
    folder = tmp_path_factory.mktemp("short-lives")
    with open_world(folder, EMBEDDED, network, {"certificate_seconds": 6}) as hasty:
        hasty.ensure_running()
        network.lose(10)
        until("five lives", lambda: hasty.collector.said().count('"renewed"') >= 5)
        network.cut()
        pages(hasty, 9)
        network.mend()
        hasty.drained()
        hasty.expect_clean(after="six lives of a certificate")
