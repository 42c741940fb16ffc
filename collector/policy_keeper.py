"""Keeps the policy that holds: reads it again, switches to a new one, stops shipping while no valid one is known.

unsigned (and the section `policy`): a new one that can be read holds at once; one that can't leaves the old.
signed: a file that does not hold stops shipping. Scraping goes on under the last accepted policy, so that the spool
never gets what a signed policy did not allow; if none was ever accepted nothing is spooled at all.

In each case a change first holds for what is scraped, then is written down, and shipping waits until it is.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from collector.errors import PolicyRefused
from collector.gate import ShippingGate
from collector.identity.store import IdentityFolder
from collector.metrics import CollectorMetrics
from collector.policy import ClosedPolicy, Explained, LivePolicy, make_policy, policy_digest
from collector.policy_accepted import AcceptedPolicy, check_version
from collector.policy_changes import PolicyChange, PolicyJournal, summarize
from collector.policy_file import PolicyFile, load_public_key, read_policy
from collector.policy_settings import PolicyDocument, PolicyFileSettings, PolicyMode, PolicySettings
from collector.settings import CollectorSettings
from kernel.errors import InvalidInput
from kernel.logs import logger

_log = logger("policy")
_CAUSE_POLICY, _CAUSE_LEDGER = "policy", "ledger"


@dataclass(frozen=True, slots=True)
class Held:
    """A policy to hold. `settings` None: nothing may leave. `problem`: why shipping stops under it."""

    policy: Explained
    settings: PolicySettings | None
    change: PolicyChange | None
    problem: str | None = None


class PolicyKeeper:
    """One for the process."""

    def __init__(self, gate: ShippingGate, journal: PolicyJournal, metrics: CollectorMetrics) -> None:
        self.live = LivePolicy(ClosedPolicy())
        self.problem: str | None = "not read yet"
        self._gate = gate
        self._journal = journal
        self._metrics = metrics
        self._held: PolicySettings | None = None
        self._unwritten: PolicyChange | None = None
        self._reported: str | None = None  # the state of shipping that the ledger knows
        self._lock = asyncio.Lock()

    @property
    def unwritten(self) -> bool:
        """Whether a change still has to be written down; `refresh` tries it again."""
        return self._unwritten is not None

    async def start(self, settings: CollectorSettings) -> None:
        """Read the policy. Raises InvalidInput, IdentityRefused, OSError: without a policy nothing may start.

        A signed file that does not hold is no reason not to start: shipping is stopped.
        """
        await self._hold(await asyncio.to_thread(load_policy, settings))

    async def refresh(self, settings: CollectorSettings) -> None:
        """Read it again and switch. Raises InvalidInput, IdentityRefused, OSError: then the old one holds on."""
        await self._hold(await asyncio.to_thread(load_policy, settings))

    async def _hold(self, held: Held) -> None:
        async with self._lock:
            if held.settings is None and self._held is not None:
                # What was checked when it was read holds on: closing now would lose what it lets out.
                held = replace(held, policy=self.live.current, settings=self._held)
            if held.settings is None:
                held = replace(held, problem=f"{held.problem}; no policy was accepted before: nothing is spooled")
            if held.problem is not None:
                self._gate.close(_CAUSE_POLICY, held.problem)
            if held.policy.version != self.live.version:
                self.live.current = held.policy
                self._metrics.policy_changes.inc()
            self.problem = held.problem
            self._metrics.policy_problem.set(held.problem is not None)
            await self._write_down(held)
            if held.problem is None:
                self._gate.open(_CAUSE_POLICY)

    async def _write_down(self, held: Held) -> None:
        self._unwritten = held.change or self._unwritten
        try:
            await asyncio.to_thread(self._journal_changes, held)
        except (OSError, sqlite3.Error) as error:
            self._gate.close(_CAUSE_LEDGER, f"the change of policy can't be written down: {error}")
            return
        self._held, self._unwritten = held.settings or self._held, None
        self._gate.open(_CAUSE_LEDGER)

    def _journal_changes(self, held: Held) -> None:
        change, last = self._unwritten, self._journal.last_policy()
        if change is not None and (last is None or (last.digest, last.key) != (change.digest, change.key)):
            change = replace(change, summary=summarize(last.rules if last else None, change.rules))
            self._journal.policy_changed(change)
            _log.info("policy_changed", source=change.source, sha256=change.digest, changes=list(change.summary))
        if held.problem != self._reported:
            self._journal.shipping_changed(held.problem)
            self._reported = held.problem


def load_policy(settings: CollectorSettings, *, keep: bool = True) -> Held:
    """The policy that settings lead to now. Blocking; a key of pseudonyms may be made.

    `keep`: a new signed policy is accepted, which raises the floor for the next. False only looks and writes
    nothing: without a key of pseudonyms yet, those shown are of a key that is forgotten.
    Raises InvalidInput, IdentityRefused, OSError.
    """
    folder = IdentityFolder(settings.gateway.identity)
    if keep:
        folder.prepare()
    key = pseudonym_key(settings, folder, make=keep)
    file = settings.policy_file
    if file.path is None:
        return _hold(settings.policy, key, "section policy", "inline", policy_digest(settings.policy))
    if file.mode is PolicyMode.SIGNED:
        return _load_signed(file, AcceptedPolicy(folder.folder / "accepted-policy.json"), key, keep=keep)
    try:
        return _of_file(read_policy(file.path, file.signature), file.mode, key)
    except PolicyRefused as error:  # a signature that nobody asked for, and that is none
        raise InvalidInput.single(
            str(file.path), "signature", str(error), "none, or one that can be read"
        ) from error


def _load_signed(file: PolicyFileSettings, accepted: AcceptedPolicy, key: bytes, *, keep: bool) -> Held:
    assert file.path is not None
    assert file.public_key is not None
    last: PolicyFile | None = None
    try:
        public = load_public_key(file.public_key)
        last = accepted.load(public)
        policy = read_policy(file.path, file.signature)
        policy.check_signature(public)
        check_version(policy, last)
        if keep and (last is None or last.content != policy.content):
            accepted.save(policy)
    except (InvalidInput, PolicyRefused, OSError) as error:
        if last is None:
            return Held(ClosedPolicy(), None, None, str(error))
        return replace(_of_file(last, file.mode, key), problem=str(error))
    return _of_file(policy, file.mode, key)


def _of_file(policy: PolicyFile, mode: PolicyMode, key: bytes) -> Held:
    return _hold(policy.document, key, Path(policy.source).name, mode.value, policy.digest)


def _hold(settings: PolicySettings, key: bytes, source: str, mode: str, digest: str) -> Held:
    version = settings.version if isinstance(settings, PolicyDocument) else 0
    fingerprint = hmac.digest(key, b"byoc pseudonym key", "sha256").hex()[:16]
    return Held(
        make_policy(settings, key), settings, PolicyChange(source, mode, digest, version, fingerprint, settings)
    )


def pseudonym_key(settings: CollectorSettings, folder: IdentityFolder, *, make: bool = True) -> bytes:
    """The key of pseudonyms: of the tenant's file, or of this collector. Raises InvalidInput, IdentityRefused."""
    path = settings.pseudonyms.key_file
    if path is None:
        if not make and not folder.pseudonym_path.exists():
            return os.urandom(32)
        return folder.pseudonym_key()
    try:
        key = path.read_bytes()
    except OSError as error:
        found = error.strerror or str(error)
        raise InvalidInput.single(str(path), "pseudonyms.key_file", found, "a readable file") from error
    if len(key) < 16:
        raise InvalidInput.single(str(path), "pseudonyms.key_file", f"{len(key)} bytes", "16 secret bytes or more")
    return key
