"""A Chinese document has Chinese words for units, tiers, prices and facts, each with a glyph."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pypdf
import pytest

from billing.api import GrantTerms, invoice_pdf
from billing.words import in_language, unit
from kernel.money import Money, currency
from kernel.window import HOUR_MS, month
from tests.billing.deals import ACME, Office, contract_text, ten_vcpu_above_for_an_hour
from tests.billing.test_documents import fonts_of, glyphs_of

OCTOBER = month("2026-10")
BLOCKS = "[{up_to: '5', size: '2', price: '1'}, {up_to: null, size: '4', price: '1'}]"
MODELS = {
    "vectors": (
        '{kind: graduated, tiers: [{up_to: "5", unit: "1", flat: "2"}, {up_to: null, unit: "0.5"}]}',
        "million vectors",
    ),
    "rows": ('{kind: volume, tiers: [{up_to: "5", unit: "1"}, {up_to: null, unit: "0.5", flat: "3"}]}', "rows"),
    "hours": ('{kind: package, size: "4", price: "3", free_units: "1"}', "GiB-hours"),
    "flat": ('{kind: flat-per-tier, tiers: [{up_to: "5", flat: "3"}, {up_to: null, flat: "9"}]}', "searches"),
    "share": (
        '{kind: percentage, percent: "1.5", fixed_fee: "0.1", free_events: 1, min: "0.2", max: "0.25"}',
        "events",
    ),
    "blocks": (
        f"{{kind: block-tiers, mode: all-tiers, tiers: {BLOCKS}}}",
        "thousand requests",
    ),
    "windowed": ('{kind: windowed-commitment, committed: "0.01", unit: "1", overage_factor: "1.5"}', "users"),
    "each": ('{kind: per-unit, unit: "0.3"}', "entities"),
}
OURS = {
    "vCPU",
    "GiB",
    "USD",
    "VAT",
    "tests",
    "sha",
}  # no Chinese says these otherwise; the catalogue is named `tests`


def charged(more: str = "") -> str:
    charges = "".join(
        f"  - {{charge: {name}, description: 收费, meter: {name}, group_by: cluster, "
        f"steps: [{{start: 2026-10-01, {more}model: {model}}}]}}\n"
        for name, (model, _) in MODELS.items()
    )
    return (
        f'language: zh\ngap_policy: hold-last\nthreshold: "1.00"\ncharges:\n{charges}'
        'spend: {min: "20000"}\nspend_commitment: {amount: "99999", every: month}\n'
        'discounts: [{discount: less, description: 折扣, percent: "1"}]\ntax: {category: S, rate: "6"}\n'
    )


def documents(office: Office, more: str = "") -> list[dict[str, Any]]:
    """The month's invoice, a threshold invoice before it, and a credit note."""
    for name, (_, of) in MODELS.items():
        office.usage.meters[name] = {
            "一": {OCTOBER.start_ms: Fraction(12), OCTOBER.start_ms + HOUR_MS: Fraction(9)}
        }
        office.usage.units[name] = of
    office.usage.levels, office.usage.missing_ms = ten_vcpu_above_for_an_hour(OCTOBER), 60_000
    office.book.add_contract(contract_text(more=charged(more)), "contract.yaml", "test")
    office.prepaid.add("bought", ACME, Money(Decimal(1), currency("USD")), GrantTerms("wire"))
    office.clock.step_wall(-5 * 86_400)
    threshold = office.run.threshold(ACME, "2026-10")
    assert threshold is not None
    office.clock.step_wall(5 * 86_400)
    invoice = office.run.close(ACME, "2026-10").invoice
    note = office.receivables.credit(threshold.number, {0: Money(Decimal(1), currency("USD"))}, "补偿")
    return [json.loads(one.json) for one in (threshold, invoice, note)]


def printed(document: dict[str, Any]) -> Iterator[str]:
    """What stands on it of our words, as the template takes it."""
    said = in_language(document)
    yield from said["notes"]
    for line in said["lines"]:
        made = line["derivation"]
        yield line["description"]
        yield made["quantity"]["unit"]
        yield from line["notes"]
        yield made["rate"]["basis"] if made["rate"] else ""
        for part in made["parts"]:
            yield from (part["label"], part["quantity"]["unit"], part["rate"]["basis"])
        for fact in made["facts"]:
            yield fact["label"]
            yield "" if fact["name"] in {"meter", "revision_digest"} else fact["shown"]


@pytest.mark.parametrize("more", ["", 'uplifts: ["3.3"], '], ids=["first term", "renewed"])
def test_nothing_of_ours_stays_english(small_office: Office, more: str) -> None:
    for document in documents(small_office, more):
        for text in printed(document):
            named = re.sub(r"EXAMPLE-EU-[0-9]{4}-(CN)?[0-9]+", "", text)
            assert set(re.findall("[A-Za-z]{2,}", named)) <= OURS, text


def test_units_and_tiers_are_printed_in_chinese_and_have_glyphs(small_office: Office) -> None:
    _, document, _ = documents(small_office)
    pdf = pypdf.PdfReader(io.BytesIO(invoice_pdf().render(json.dumps(document).encode())))
    text = "\n".join(page.extract_text() for page in pdf.pages)
    for expected in (
        "600 vCPU·分钟",
        "10.000 vCPU·小时",
        "至 5(含) 5 百万向量 本档用量每单位 1 5",
        "超过 5 16 百万向量 本档用量每单位 0.5 8",
        "至 5(含) 1 档 进入本档时收取一次 2",
        "超过 5 21 行 全部用量每单位 0.5 10.5",
        "免费用量 1 GiB·小时 免费 0",
        "整包 5 包 每 4 GiB·小时 计 3,不足一份按一份计 15",
        "超过 5 1 档 所达档位的固定价 9",
        "4 块 每 4 千次请求 计 1,不足一份按一份计 4",
        "承诺用量以内",
        "每单位 1 的 1.5 倍",
        "全部用量 21 实体 每单位 0.3 6.3",
        "计价方式 分档累进",
        "收费(集群 一)",
        "有数据的时间 744.00 序列·小时",
    ):
        assert expected in text, expected
    assert "NotoSansCJKsc-Regular" in fonts_of(pdf), "text extraction alone does not notice boxes"
    assert all(glyph for page in pdf.pages for glyph in glyphs_of(page))


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("vCPU-minute", "vCPU·分钟"),
        ("vCPU-hours", "vCPU·小时"),
        ("million vectors", "百万向量"),
        ("GiB-hours", "GiB·小时"),
        ("hours", "小时"),
        ("days", "天"),
        ("row-hours", "行·小时"),
        ("thousand queries", "千次查询"),
        ("GiB", "GiB"),
        ("Smoots", "Smoots"),
    ],
)
def test_a_unit_in_chinese(english: str, chinese: str) -> None:
    """A vendor's own unit that nobody knows stays as it wrote it."""
    assert unit(english) == chinese


def test_the_document_itself_stays_english(small_office: Office) -> None:
    _, document, _ = documents(small_office)
    units = {line["derivation"]["quantity"]["unit"] for line in document["lines"]}
    assert {"million vectors", "GiB-hours", "vCPU-minute"} <= units
