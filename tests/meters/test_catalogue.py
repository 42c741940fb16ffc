"""Catalogues of meters: what is read, and each refusal with file, field, found and allowed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from console.cli import main
from kernel.errors import InvalidInput
from metering.meters.catalogue import default_catalogue, parse_catalogue

GOOD = """
catalogue: acme
version: 2
meters:
  - meter: searches
    description: Searches
    kind: counter-increase
    series: [{metric: searches_total, where: {status: [ok, late]}}]
    group_by: [collection]
    unit: searches
"""


def test_the_pack_for_milvus_holds_what_a_milvus_is_charged_for() -> None:
    pack = default_catalogue()
    assert [meter.meter for meter in pack.meters] == [
        "licence-vcpu",
        "milvus-search-vectors",
        "milvus-insert-vectors",
        "milvus-delete-vectors",
        "milvus-upsert-vectors",
        "milvus-bytes-in",
        "milvus-bytes-out",
        "milvus-stored-bytes",
        "milvus-loaded-rows",
    ]
    stored = pack.meters[7]
    assert stored.in_units(2**30 * 3_600_000) == Fraction(1)


def test_a_filter_is_a_choice_of_values_and_all_labels_must_fit() -> None:
    each = parse_catalogue(GOOD, "m.yaml").meters[0].series[0]
    assert each.matches({"__name__": "searches_total", "status": "late"})
    assert not each.matches({"__name__": "searches_total", "status": "failed"})
    assert not each.matches({"__name__": "searches_total"})


REFUSED = [
    ("version: 2", "version: 0", "version"),
    ("version: 2", 'version: "2"', "version"),
    ("version: 2", "version: 2\nversion: 3", "line 2"),
    ("counter-increase", "counter", "meters[0].kind"),
    ("searches_total,", '"searches total",', "meters[0].series[0].metric"),
    ("group_by: [collection]", "group_by: [cluster]", "meters[0].group_by"),
    ("group_by: [collection]", "group_by: [a, a]", "meters[0].group_by"),
    ("group_by: [collection]", "colour: red", "meters[0].colour"),
    ("unit: searches", "unit: searches\n    per: hour", "meters[0].per"),
    ("unit: searches", "unit: searches\n    scale: 0", "meters[0].scale"),
    ("unit: searches", "unit: searches\n    scale: 1.5", "meters[0].scale"),
    ("unit: searches", "unit: searches\n    identity: [cluster, collection]", "meters[0].identity"),
    ("kind: counter-increase", "kind: percentile", "meters[0].percentile"),
    ("kind: counter-increase", "kind: unique-count", "meters[0].count"),
    ("kind: counter-increase", "kind: gauge-integral", "meters[0].per"),
    ("kind: counter-increase", "kind: peak\n    identity: [pod]", "meters[0].identity"),
    ("unit: searches\n", "unit: searches\n" + GOOD[GOOD.index("  - meter") :], "meters[0].meter"),
]


@pytest.mark.parametrize(("old", "new", "where"), REFUSED, ids=[each[2] + "/" + each[1][:24] for each in REFUSED])
def test_a_wrong_catalogue_is_refused_with_the_place(old: str, new: str, where: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidInput) as refused:
        parse_catalogue(GOOD.replace(old, new), "m.yaml")
    assert where in [finding.where for finding in refused.value.findings], refused.value
    assert all(finding.source == "m.yaml" and finding.allowed for finding in refused.value.findings)


def test_meters_check_says_what_it_read_and_refuses_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "meters.yaml"
    file.write_text(GOOD)
    with pytest.raises(SystemExit) as done:
        main(["meters", "check", str(file)])
    assert done.value.code == 0
    assert "catalogue acme 2, 1 meters" in capsys.readouterr().out
    file.write_text(GOOD.replace("searches_total", "1"))
    with pytest.raises(SystemExit) as done:
        main(["meters", "check", str(file)])
    assert done.value.code == 2
    assert "meters[0].series[0].metric" in capsys.readouterr().err


def test_meters_list_needs_no_vendor_side(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["meters", "list"])
    assert done.value.code == 0
    assert "milvus_proxy_search_vectors_count" in capsys.readouterr().out
