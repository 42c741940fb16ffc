"""Whether the documents of a contract can be Factur-X: said where the contract is read, not when one is issued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernel.errors import Finding
from kernel.money import currency

if TYPE_CHECKING:
    from billing.contract import Contract

MAX_DECIMALS = 2  # BR-DEC: no amount has more


def facturx_findings(contract: Contract, source: str) -> Iterator[Finding]:
    """What EN 16931 needs and the contract lacks, when its legal entity issues Factur-X."""
    entity, customer, tax = contract.legal_entity, contract.customer, contract.tax
    if not entity.facturx:
        return
    why = "legal_entity.facturx needs "
    for name, party in (("legal_entity", entity), ("customer", customer)):
        if party.country is None:
            yield Finding(source, f"{name}.country", "nothing", why + 'an ISO 3166 code, such as "DE"')
    if tax is None:
        yield Finding(source, "tax", "nothing", why + "a tax category and rate")
    if entity.tax_id is None:
        yield Finding(source, "legal_entity.tax_id", "nothing", why + "the seller's tax number")
    if tax and tax.category == "AE" and customer.tax_id is None:
        yield Finding(source, "customer.tax_id", "nothing", why + "the buyer's VAT number for category AE")
    if currency(contract.currency).exponent > MAX_DECIMALS:
        allowed = f"{why}a currency of at most {MAX_DECIMALS} decimals"
        yield Finding(source, "currency", contract.currency, allowed)
