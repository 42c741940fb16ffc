"""A token becomes a certificate once; a revoked name gets no next one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from kernel.clock import VirtualClock
from kernel.deployment import Deployment
from kernel.errors import InvalidInput
from kernel.identity import Identity, certificate_identity, new_private_key, render_csr
from kernel.identity.cli import ca_app, enrol_app, revoke_app
from kernel.identity.errors import (
    AuthorityExists,
    CertificateRevoked,
    InvalidRequest,
    RevocationsStale,
    TokenRefused,
)
from kernel.identity.models import certificates, enrolment_tokens
from kernel.identity.revocation import STALE_SECONDS, Revocations
from kernel.ids import CollectorId
from tests.identity.world import ACME, COLLECTOR, OTHER, IdentityWorld, make_world

CSR = render_csr(new_private_key())


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def world(tmp_path: Path, clock: VirtualClock) -> Iterator[IdentityWorld]:
    made = make_world(tmp_path, clock=clock)
    yield made
    made.database.close()


@pytest.fixture
def postgres_world(tmp_path: Path, migrated_postgres_url: str) -> Iterator[IdentityWorld]:
    made = make_world(tmp_path, migrated_postgres_url)
    yield made
    made.database.close()


def enrol(world: IdentityWorld) -> Identity:
    issued = world.tokens.redeem(world.tokens.create(ACME, COLLECTOR), CSR, world.authority)
    return certificate_identity(issued.certificate_pem)


def test_a_token_becomes_a_certificate_once(world: IdentityWorld) -> None:
    token = world.tokens.create(ACME, COLLECTOR)
    issued = world.tokens.redeem(token, CSR, world.authority)
    assert certificate_identity(issued.certificate_pem).who == "acme/prod/collector-1"
    with pytest.raises(TokenRefused, match="unknown, used or expired"):
        world.tokens.redeem(token, CSR, world.authority)
    assert serials(world) == [issued.serial]
    assert world.audit.verify() == []


async def test_a_token_expires(world: IdentityWorld, clock: VirtualClock) -> None:
    token = world.tokens.create(ACME, COLLECTOR, lifetime_seconds=60)
    await clock.advance(60)
    with pytest.raises(TokenRefused):
        world.tokens.redeem(token, CSR, world.authority)
    assert [row.state(clock.now_ms()) for row in world.tokens.list()] == ["expired"]


def test_a_token_is_stored_nowhere(world: IdentityWorld) -> None:
    token = world.tokens.create(ACME, COLLECTOR)
    with world.database.engine.begin() as connection:
        assert token not in str(connection.execute(sa.select(enrolment_tokens)).all())
    world.database.close()
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if token.encode() in path.read_bytes()]


def test_a_bad_request_uses_no_token_up(world: IdentityWorld) -> None:
    token = world.tokens.create(ACME, COLLECTOR)
    with pytest.raises(InvalidRequest):
        world.tokens.redeem(token, b"no request", world.authority)
    assert world.tokens.redeem(token, CSR, world.authority).serial


def test_a_failed_record_uses_no_token_up(world: IdentityWorld) -> None:
    """The use of the token and the record of the certificate are one transaction."""
    token = world.tokens.create(ACME, COLLECTOR)
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE certificates RENAME TO elsewhere")
    with pytest.raises(sa.exc.OperationalError):
        world.tokens.redeem(token, CSR, world.authority)
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO certificates")
    assert world.tokens.redeem(token, CSR, world.authority).serial


@pytest.mark.parametrize("token", ["", "byoc-enrol-", "byoc-enrol-" + "a" * 43, "x" * 100_000, "byoc-enrol-é" * 4])
def test_no_other_text_is_a_token(world: IdentityWorld, token: str) -> None:
    with pytest.raises(TokenRefused):
        world.tokens.redeem(token, CSR, world.authority)


@pytest.mark.parametrize("seconds", [0, -1, 8 * 86_400])
def test_a_lifetime_is_bounded(world: IdentityWorld, seconds: int) -> None:
    with pytest.raises(InvalidInput, match="lifetime"):
        world.tokens.create(ACME, COLLECTOR, seconds)


def redeem_at_once(world: IdentityWorld, count: int) -> tuple[int, int]:
    token = world.tokens.create(ACME, COLLECTOR)
    together = Barrier(count)

    def redeem(_: int) -> bool:
        together.wait()
        try:
            return bool(world.tokens.redeem(token, CSR, world.authority).serial)
        except TokenRefused:
            return False

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(redeem, range(count))), len(serials(world))


def test_of_concurrent_redemptions_exactly_one_wins(world: IdentityWorld) -> None:
    assert redeem_at_once(world, 6) == (1, 1)


@pytest.mark.services
def test_of_concurrent_redemptions_exactly_one_wins_on_postgresql(postgres_world: IdentityWorld) -> None:
    assert redeem_at_once(postgres_world, 8) == (1, 1)


def test_a_revoked_collector_loses_its_certificates_and_tokens(world: IdentityWorld) -> None:
    identity = enrol(world)
    renewed = world.tokens.renew(identity, CSR, world.authority)
    unused = world.tokens.create(ACME, COLLECTOR)
    neighbour = world.tokens.redeem(world.tokens.create(OTHER, COLLECTOR), CSR, world.authority)
    assert world.revocations.revoke_collector(ACME, COLLECTOR, "key lost") == 2
    assert world.revocations.is_revoked(identity.serial)
    assert world.revocations.is_revoked(renewed.serial)
    assert not world.revocations.is_revoked(neighbour.serial)
    with pytest.raises(CertificateRevoked):
        world.tokens.renew(identity, CSR, world.authority)
    with pytest.raises(TokenRefused):
        world.tokens.redeem(unused, CSR, world.authority)
    assert not world.revocations.is_revoked(enrol(world).serial)


def test_a_revocation_reaches_another_process_with_its_next_refresh(world: IdentityWorld) -> None:
    identity = enrol(world)
    elsewhere = Revocations(world.database, world.clock)
    elsewhere.refresh()
    changes: list[str] = []
    elsewhere.on_change(lambda: changes.append("changed"))
    world.revocations.revoke_serial(identity.serial.upper(), "seen on a laptop")
    assert world.revocations.is_revoked(identity.serial)
    assert not elsewhere.is_revoked(identity.serial)
    elsewhere.refresh()
    elsewhere.refresh()
    assert elsewhere.is_revoked(identity.serial)
    assert changes == ["changed"]


async def test_a_certificate_leaves_the_list_once_it_may_not_even_renew_itself(
    world: IdentityWorld, clock: VirtualClock
) -> None:
    identity = enrol(world)
    world.revocations.revoke_serial(identity.serial, "key lost")
    for days, is_listed in ((2, True), (88, True), (2, False)):
        await clock.advance(days * 86_400)
        world.revocations.refresh()
        assert world.revocations.is_revoked(identity.serial) is is_listed


async def test_an_expired_certificate_is_revoked_with_its_collector(
    world: IdentityWorld, clock: VirtualClock
) -> None:
    identity = enrol(world)
    await clock.advance(2 * 86_400)
    assert world.revocations.revoke_collector(identity.tenant, identity.collector, "key lost") == 1
    with pytest.raises(CertificateRevoked):
        world.tokens.renew(identity, CSR, world.authority)


async def test_nobody_is_let_in_on_an_old_list(world: IdentityWorld, clock: VirtualClock) -> None:
    with pytest.raises(RevocationsStale):
        world.revocations.is_revoked("1")
    world.revocations.refresh()
    await clock.advance(STALE_SECONDS + 1)
    with pytest.raises(RevocationsStale, match="check the database"):
        world.revocations.is_revoked("1")


@pytest.mark.services
def test_a_renewal_that_races_a_revocation_does_not_outlive_it(postgres_world: IdentityWorld) -> None:
    """Whichever comes first, no certificate is left that is neither revoked nor refused."""
    world = postgres_world
    for number in range(10):
        name = CollectorId(f"collector-{number}")
        token = world.tokens.create(ACME, name)
        identity = certificate_identity(world.tokens.redeem(token, CSR, world.authority).certificate_pem)
        together = Barrier(2)

        def renew(identity: Identity = identity, together: Barrier = together) -> None:
            together.wait()
            try:
                world.tokens.renew(identity, CSR, world.authority)
            except CertificateRevoked:
                return

        def revoke(name: CollectorId = name, together: Barrier = together) -> None:
            together.wait()
            world.revocations.revoke_collector(ACME, name, "key lost")

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(renew), pool.submit(revoke)]:
                done.result()
    assert [serial for serial in serials(world) if not world.revocations.is_revoked(serial)] == []


def test_the_commands_do_the_same(tmp_path: Path, world: IdentityWorld) -> None:
    deployment = Deployment.embedded(tmp_path, world.clock)
    runner = CliRunner()
    made = Deployment.embedded(tmp_path / "new")
    assert "byoc.local" in runner.invoke(ca_app, ["init"], obj=made).output
    assert isinstance(runner.invoke(ca_app, ["init"], obj=made).exception, AuthorityExists)
    assert "BEGIN CERTIFICATE" in runner.invoke(ca_app, ["show"], obj=deployment).output
    who = ["--organization", "acme", "--project", "prod", "--collector", "collector-1"]
    token = runner.invoke(enrol_app, ["create", *who], obj=deployment).output.strip()
    world.tokens.redeem(token, CSR, world.authority)
    listed = runner.invoke(enrol_app, ["list"], obj=deployment).output
    assert '"redeemed"' in listed
    assert token not in listed
    revoked = runner.invoke(revoke_app, ["collector", *who, "--reason", "test"], obj=deployment)
    assert "1 certificates" in revoked.output, revoked
    refused = runner.invoke(enrol_app, ["create", *who[:-1], "Not An Id"], obj=deployment)
    assert isinstance(refused.exception, InvalidInput)
    deployment.database().close()


def serials(world: IdentityWorld) -> list[str]:
    with world.database.engine.begin() as connection:
        return list(connection.execute(sa.select(certificates.c.serial)).scalars())
