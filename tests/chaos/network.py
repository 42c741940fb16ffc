"""Two hosts of the test's own: the customer's VPC, which may only call out to port 443, and the vendor's.

Network namespaces of this machine, joined by a veth pair; the addresses are of TEST-NET-1 (RFC 5737) and exist
nowhere else. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.errors import ServiceUnavailable
from tests.services.process import find_program

VENDOR, VPC = "192.0.2.1", "192.0.2.2"
_CLONE_NEWNET = 0x40000000
_OUTBOUND_443_ALONE = f"""
table inet way_out {{
  chain output {{
    type filter hook output priority 0; policy drop;
    oif lo accept
    ip daddr {VENDOR} tcp dport 443 accept
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iif lo accept
    ip saddr {VENDOR} tcp sport 443 ct state established accept
  }}
}}
"""
_WIRE = """
table inet wire {
  chain input { type filter hook input priority 10; }
  chain output { type filter hook output priority 10; }
}
"""


class Network:
    """The two hosts and the wire between them. Open it with `open_network`."""

    def __init__(self, number: int) -> None:
        self.vpc, self.vendor = f"byoc-vpc-{number}", f"byoc-vendor-{number}"

    def lose(self, percent: int) -> None:
        """Lose that many of a hundred packets, each way, drawn at random."""
        self._wire(f"numgen random mod 100 < {percent} drop")

    def cut(self) -> None:
        """Nothing passes, and nobody is told."""
        self._wire("drop")

    def mend(self) -> None:
        """The wire is as it should be."""
        _run("ip", "netns", "exec", self.vendor, "nft", "flush", "chain", "inet", "wire", "input")
        _run("ip", "netns", "exec", self.vendor, "nft", "flush", "chain", "inet", "wire", "output")

    def _wire(self, rule: str) -> None:
        self.mend()
        rules = f'add rule inet wire input iifname "wire" {rule}\nadd rule inet wire output oifname "wire" {rule}\n'
        _run("ip", "netns", "exec", self.vendor, "nft", "-f", "-", stdin=rules)

    @contextmanager
    def in_vpc(self) -> Iterator[None]:
        """Sockets that this thread makes are the VPC's; they stay so when the block ends."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.vpc}").open() as away:
            _enter(libc, away.fileno())
            try:
                yield
            finally:
                _enter(libc, home.fileno())

    def reaches(self, port: int) -> bool:
        """Whether the VPC can open a connection to that port of the vendor."""
        probe = f"import socket; socket.create_connection(({VENDOR!r}, {port}), 1)"
        words = ["ip", "netns", "exec", self.vpc, sys.executable, "-c", probe]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0

    def build(self) -> None:
        """Make the hosts and join them."""
        for name in (self.vendor, self.vpc):
            _run("ip", "netns", "add", name)
        _run("ip", "-n", self.vendor, "link", "add", "wire", "type", "veth", "peer", "wire", "netns", self.vpc)
        for name, address, rules in ((self.vendor, VENDOR, _WIRE), (self.vpc, VPC, _OUTBOUND_443_ALONE)):
            _run("ip", "netns", "exec", name, "nft", "-f", "-", stdin=rules)
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "wire")
            for device in ("lo", "wire"):
                _run("ip", "-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        """Both hosts, with all that is in them. Idempotent."""
        for name in (self.vpc, self.vendor):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def open_network() -> Iterator[Network]:
    """Raises ServiceUnavailable where hosts can't be made."""
    if os.geteuid() != 0:
        raise ServiceUnavailable("network namespaces need root: run the tests as root")
    for name, package in (("ip", "iproute2"), ("nft", "nftables")):
        find_program(name, how_to_get=f"apt-get install {package}")
    network = Network(os.getpid())
    network.remove()
    try:
        network.build()
        yield network
    finally:
        network.remove()


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _run(*words: str, stdin: str | None = None) -> None:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
