"""An invoice is explained, bundled and verified; one byte changed anywhere is found and its place named."""

from __future__ import annotations

import json
import shutil
from copy import copy
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import DBAPIError

from billing.models import signatures
from billing.proof.checkpoint import CHECKPOINTS
from billing.proof.held import Held
from billing.proof.rows import BILLED, CORRECTED, INVOICE, NOW, ROWS, SIGNATURE, STEPS
from billing.proof.signatures import load_signature
from billing.proof.statement import InvoiceSigner, statement_of
from billing.proof.verify import verify_bundle
from kernel.errors import ByocError, Conflict, InvalidInput, NotFound
from kernel.identity import CertificateAuthority
from kernel.identity.receipt_key import INVOICE_KEY_FILE, open_invoice_key
from tests.billing.deals import ACME, Office, contract_text
from tests.billing.test_cli import TERM, Desk

NUMBER = "EXAMPLE-EU-2026-000002"


class Closed(Desk):
    """October is invoiced, an hour of it above the commitment."""

    def __init__(self, folder: Path, *, is_signed: bool = True, above: bool = True) -> None:
        super().__init__(folder)
        if is_signed:
            self.make_authority()
        self.say("contract", "add", self.file("contract.yaml", contract_text(term=TERM)))
        self.seal_term(above=above)
        self.say("invoice", "finalize", "acme", "2026-10")
        if is_signed:
            self.kept = folder / "checkpoint.json"
            self.say("invoice", "checkpoint", "--month", "2026-10", "--out", str(self.kept))
        self.bundle = folder / "bundle"

    def make_authority(self) -> None:
        self.authority = CertificateAuthority.create(
            self.deployment.authority_folder, "vendor.example.com", self.deployment.clock
        )

    def explained(self) -> str:
        return self.say("invoice", "explain", NUMBER, "--line", "2")

    def resign(self, change: dict[str, object]) -> None:
        """A vendor that signs a document which does not follow from its rows, and hides its checkpoints."""
        (self.bundle / CHECKPOINTS).unlink(missing_ok=True)
        document = json.loads((self.bundle / INVOICE).read_text()) | change
        encoded = json.dumps(document).encode()
        (self.bundle / INVOICE).write_bytes(encoded)
        files = {STEPS: sha256((self.bundle / STEPS).read_bytes()).hexdigest()}
        signer = InvoiceSigner.of(open_invoice_key(self.deployment.authority_folder), self.authority.sign_statement)
        statement = statement_of(document, encoded, files, document["issued_at"])
        (self.bundle / SIGNATURE).write_bytes(signer.sign(statement))

    def refusal(self) -> str:
        with pytest.raises(InvalidInput) as caught:
            verify_bundle(self.bundle, self.authority.certificate_pem)
        return str(caught.value)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Closed:
    """With a bundle, which `closed` copies."""
    desk = Closed(tmp_path_factory.mktemp("desk"))
    desk.say("invoice", "bundle", NUMBER, "--out", str(desk.bundle))
    return desk


@pytest.fixture
def closed(written: Closed, tmp_path: Path) -> Closed:
    """The same desk for each test, with a copy of the bundle that may be damaged."""
    desk = copy(written)
    desk.bundle = Path(shutil.copytree(written.bundle, tmp_path / "bundle"))
    return desk


def test_a_bundle_verifies_and_says_what_it_does_not_prove(closed: Closed) -> None:
    verified = verify_bundle(closed.bundle, closed.authority.certificate_pem)
    assert verified.number == NUMBER
    assert "amounts: 2 of 2 lines recomputed from rows and contract" in verified.proved
    assert len(verified.unproved) == 1
    assert "does not say which pushes its rows were made from" in verified.unproved[0]
    kept = closed.kept.read_bytes()
    shown = verify_bundle(closed.bundle, closed.authority.certificate_pem, Held(checkpoint=kept)).proved
    assert any("nothing it holds was rewritten" in text for text in shown)


def test_a_checkpoint_that_was_kept_needs_one_in_the_bundle(closed: Closed) -> None:
    (closed.bundle / CHECKPOINTS).unlink()
    assert (
        "checkpoint: that one holds it"
        in verify_bundle(closed.bundle, closed.authority.certificate_pem).unproved[0]
    )
    with pytest.raises(InvalidInput, match="a bundle written since a checkpoint was made"):
        verify_bundle(closed.bundle, closed.authority.certificate_pem, Held(checkpoint=closed.kept.read_bytes()))


def test_a_commitment_is_bundled_without_rows(closed: Closed, tmp_path: Path) -> None:
    closed.say("invoice", "bundle", "EXAMPLE-EU-2026-000001", "--out", str(tmp_path / "first"))
    verified = verify_bundle(tmp_path / "first", closed.authority.certificate_pem)
    assert verified.unproved == ()
    assert "amounts: 1 of 1 lines recomputed from rows and contract" in verified.proved


def test_the_signature_is_that_of_the_day_of_issue(tmp_path: Path) -> None:
    """Later, with another key, the bundle still holds what was signed then."""
    closed = Closed(tmp_path)
    closed.say("invoice", "bundle", NUMBER, "--out", str(closed.bundle))
    (closed.deployment.authority_folder / INVOICE_KEY_FILE).unlink()
    closed.deployment.clock.step_wall(86_400)  # type: ignore[attr-defined]
    closed.say("invoice", "bundle", NUMBER, "--out", str(tmp_path / "later"))
    for name in (INVOICE, ROWS, STEPS, SIGNATURE):
        assert (tmp_path / "later" / name).read_bytes() == (closed.bundle / name).read_bytes()
    statement = json.loads((closed.bundle / SIGNATURE).read_bytes())["statement"]
    assert statement["signed_at"] == json.loads((closed.bundle / INVOICE).read_bytes())["issued_at"]
    for number in ("EXAMPLE-EU-2026-000001", NUMBER):
        assert load_signature(closed.deployment.database(), number)


def test_a_document_issued_before_there_was_a_key_says_so(tmp_path: Path) -> None:
    desk = Closed(tmp_path, is_signed=False)
    with pytest.raises(Conflict, match="byoc ca init"):
        desk.say("invoice", "bundle", NUMBER, "--out", str(desk.bundle))
    desk.make_authority()
    desk.deployment.clock.step_wall(60)  # type: ignore[attr-defined]
    desk.say("invoice", "bundle", NUMBER, "--out", str(desk.bundle))
    verified = verify_bundle(desk.bundle, desk.authority.certificate_pem)
    assert "signature: that it was made when it was issued" in verified.unproved[0]


def test_signatures_are_append_only(office: Office) -> None:
    key = Ed25519PrivateKey.generate()
    run = replace(office.run, signer=InvoiceSigner.of(key, lambda message: message))
    office.book.add_contract(contract_text(), "contract.yaml", "test")
    number = run.close(ACME, "2026-10").invoice.number
    assert load_signature(office.database, number)
    row = {"number": number, "legal_entity": "example-eu", "signed": "{}"}
    for change in (
        sa.update(signatures).values(signed="{}"),
        sa.delete(signatures),
        sa.insert(signatures).values(row),
    ):
        with pytest.raises(DBAPIError):
            office.database.transact(partial(_execute, change))


def _execute(statement: sa.Executable, connection: sa.Connection) -> None:
    connection.execute(statement)


@pytest.mark.parametrize("name", [INVOICE, ROWS, STEPS, SIGNATURE, CHECKPOINTS])
def test_a_changed_byte_is_found_and_its_file_named(closed: Closed, name: str) -> None:
    path = closed.bundle / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused = closed.refusal()
        assert name in refused or SIGNATURE in refused  # a changed invoice is not what was signed
    path.unlink()
    if name != CHECKPOINTS:
        assert name in closed.refusal()


def test_a_row_left_out_is_found(closed: Closed) -> None:
    path = closed.bundle / ROWS
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    assert "Merkle root" in closed.refusal()


def test_a_signed_price_that_is_not_the_contracts_is_found(closed: Closed) -> None:
    contract = json.loads((closed.bundle / INVOICE).read_text())["contract"]
    text = contract["snapshot"].replace('"900.00"', '"900.01"')
    before = (closed.bundle / CHECKPOINTS).read_bytes()
    closed.resign({"contract": contract | {"snapshot": text}})
    assert "contract.sha256" in closed.refusal()
    (closed.bundle / CHECKPOINTS).write_bytes(before)
    assert "checkpoints.json: inclusion" in closed.refusal()


def test_a_signed_amount_that_does_not_follow_is_found(closed: Closed) -> None:
    document = json.loads((closed.bundle / INVOICE).read_text())
    lines = document["lines"]
    lines[1]["description"] += "!"
    closed.resign({"lines": lines})
    assert "lines[2].description" in closed.refusal()
    lines[1]["amount"] = "2.03"
    closed.resign({"lines": lines})
    assert "lines[2].amount" in closed.refusal()


def test_another_authority_does_not_vouch(closed: Closed, tmp_path: Path) -> None:
    other = CertificateAuthority.create(tmp_path / "other", "vendor.example.com", closed.deployment.clock)
    with pytest.raises(InvalidInput, match="a key that this authority signed"):
        verify_bundle(closed.bundle, other.certificate_pem)


def test_a_line_is_explained_to_its_files(closed: Closed) -> None:
    text = closed.say("invoice", "explain", NUMBER, "--line", "2")
    assert text.startswith("1.03 USD  overage")
    for expected in ("quantity  600 ", "rounding  ", "hour  2026-10-30T01:00:00.000Z revision 1", "file  file sha"):
        assert expected in text
    with pytest.raises(NotFound, match="lines 1 to 2, no 3"):
        closed.say("invoice", "explain", NUMBER, "--line", "3")


def test_a_bundle_overwrites_nothing(closed: Closed) -> None:
    with pytest.raises(ByocError, match="File exists"):
        closed.say("invoice", "bundle", NUMBER, "--out", str(closed.bundle))


def changed_late(folder: Path, *, above: bool) -> tuple[Closed, str]:
    """October revised after its invoice, so that another document corrects it; its number."""
    desk = Closed(folder, above=not above)
    desk.say("invoice", "bundle", NUMBER, "--out", str(folder / "before"))
    desk.deployment.clock.step_wall(3600)  # type: ignore[attr-defined]
    desk.seal_term(above=above)
    desk.say("invoice", "bundle", NUMBER, "--out", str(folder / "after"))
    for name in (INVOICE, ROWS, STEPS, SIGNATURE):  # what was billed, not what is known now
        assert (folder / "after" / name).read_bytes() == (folder / "before" / name).read_bytes()
    verify_bundle(folder / "after", desk.authority.certificate_pem)
    said = desk.explained()
    assert "revision 1 " in said
    assert "revision 2 " not in said
    desk.deployment.clock.step_wall(32 * 86_400)  # type: ignore[attr-defined]
    if above:
        desk.seal_term(above=False, of="2026-11")
        desk.say("invoice", "finalize", "acme", "2026-11")
        return desk, "EXAMPLE-EU-2026-000003"
    desk.say("invoice", "finalize", "acme", "2026-10")
    return desk, "EXAMPLE-EU-2026-CN000001"


@pytest.mark.parametrize("above", [True, False], ids=["next invoice", "credit note"])
def test_what_was_revised_is_bundled_as_billed_and_as_rated_again(tmp_path: Path, *, above: bool) -> None:
    desk, number = changed_late(tmp_path, above=above)
    desk.say("invoice", "bundle", number, "--out", str(desk.bundle))
    verified = verify_bundle(desk.bundle, desk.authority.certificate_pem)
    shown = f"corrections: 1 lines from the rows of {NUMBER} as billed, and as rated again"
    assert shown in verified.proved
    assert not [text for text in verified.unproved if "from its contract" in text or "quantity of" in text]
    within = desk.bundle / CORRECTED / NUMBER
    now = within / NOW if above else desk.bundle
    changes = {
        within / BILLED / ROWS: "Merkle root",
        now / STEPS: "files",
        now / ROWS: "sha256" if above else "root",
    }
    for path, named in changes.items():
        content = path.read_bytes()
        path.write_bytes(content.replace(b"16000", b"16001", 1))
        assert named in desk.refusal()
        path.write_bytes(content)
    shutil.rmtree(within / BILLED)
    assert (
        f"the bundle holds nothing of {NUMBER}, which it corrects"
        in verify_bundle(desk.bundle, desk.authority.certificate_pem).unproved[-1]
    )
