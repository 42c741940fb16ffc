"""What AWS Marketplace was told of charges and took, made again from the rows in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract
from billing.draft import needed_meters
from billing.marketplace.terms import subscription_of
from billing.marketplace.told import Told, parse_log, touching
from billing.proof.loading import read_file, window_of
from billing.proof.rows import INVOICE, MARKETPLACE
from kernel.errors import InvalidInput
from kernel.window import Window
from metering.usage.rows import tree_root


def load_marketplace(
    folder: Path, rated: Mapping[str, Any], agreed: AgreedContract, period: Window
) -> dict[tuple[str, Window], Told]:
    """Of every charge that the contract has AWS bill; `rated` states them as `marketplace`.

    Raises InvalidInput: other rows than those stated, or other charges than the contract's.
    """
    sold = {
        (piece.charge.charge, piece.window): piece.charge.marketplace
        for piece in needed_meters(agreed, period)
        if piece.charge.marketplace is not None
    }
    found: dict[tuple[str, Window], Told] = {}
    for number, each in enumerate(rated.get("marketplace", ()), start=1):
        key = each["charge"], window_of(each)
        if key not in sold or sold[key] != subscription_of(each):
            where, allowed = f"marketplace[{number}]", "a charge that the contract has AWS Marketplace bill"
            raise InvalidInput.single(str(folder / INVOICE), where, each["charge"], allowed)
        found[key] = _told(folder / MARKETPLACE / f"{number}.tsv", each, agreed.contract.contract)
    if found.keys() != sold.keys():
        missing = ", ".join(sorted(charge for charge, _ in sold.keys() - found.keys()))
        raise InvalidInput.single(str(folder / INVOICE), "marketplace", f"none of {missing}", "every such charge's")
    return found


def _told(path: Path, stated: Mapping[str, Any], contract: str) -> Told:
    content, window = read_file(path), window_of(stated)
    rows = parse_log(content, str(path))
    root = tree_root(content.splitlines(keepends=True)).hex()
    if root != stated["merkle_root"]:
        raise InvalidInput.single(str(path), "Merkle root", root, f"the invoice's, {stated['merkle_root']}")
    if touching(rows, window) != rows:
        raise InvalidInput.single(str(path), "hours", "one outside of the period", "hours of the line's period")
    try:
        return Told(subscription_of(stated), contract, stated["charge"], window, rows)
    except ValueError as error:
        raise InvalidInput.single(str(path), "rows", str(error), "each hour planned before it is sent") from error
