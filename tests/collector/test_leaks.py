"""Secrets in every field a target can fill, and in our own settings: none of them leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.app import CollectorService
from collector.policy import AllowList
from collector.policy_settings import AllowRule, PolicySettings, Unlisted
from collector.settings import load_collector_settings
from tests.collector.world import Page, run_gateway, run_target, static_job, until, write_config

SECRET = "s3cr3t"
KEY = b"k" * 32
OM = "application/openmetrics-text; version=1.0.0"
TEXT_PAGE = f"""# HELP milvus_a help-{SECRET}
# TYPE milvus_a counter
# a comment {SECRET}
milvus_a{{node_id="1",collection_name="coll-{SECRET}",unknown="x-{SECRET}",label_{SECRET}="1"}} 1
milvus_plain{{db_name="{SECRET}",username="user-{SECRET}",path="/data/{SECRET}"}} 2
name_{SECRET} 3
other_metric{{x="{SECRET}"}} 4
{{"milvus.quoted.{SECRET}",x="y"}} 5
# TYPE private_{SECRET} histogram
private_{SECRET}_bucket{{le="+Inf"}} 6
"""
OM_PAGE = f"""# HELP milvus_b_bytes help-{SECRET}
# TYPE milvus_b_bytes counter
# UNIT milvus_b_bytes bytes
milvus_b_bytes_total{{node_id="1"}} 1 # {{trace_id="trace-{SECRET}"}} 0.5
milvus_b_bytes_created{{node_id="1",secret="{SECRET}"}} 1
# EOF
"""


async def test_no_secret_leaves_by_the_default_policy(tmp_path: Path) -> None:
    text, openmetrics = Page(TEXT_PAGE.encode()), Page(OM_PAGE.encode(), OM)
    broken = Page(f"milvus_a 1\nbroken {SECRET}\n".encode())
    (tmp_path / "password").write_text(f"password-{SECRET}")
    async with (
        run_gateway(tmp_path) as gateway,
        run_target(text) as one,
        run_target(openmetrics) as two,
        run_target(broken) as three,
    ):
        job = static_job(
            one,
            two,
            three,
            params={"token": [f"url-{SECRET}"]},
            basic_auth={"username": "scraper", "password_file": "password"},
        )
        job["static_configs"] = [{**job["static_configs"][0], "labels": {"owner": f"label-{SECRET}"}}]  # type: ignore[index]
        config = write_config(tmp_path, gateway.url, scrape_configs=[job])
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        await until(lambda: len(gateway.taken) >= 9)
        await collector.service.shutdown()
    names = {series.partition("{")[0] for series, _, _ in gateway.rows()}
    assert {"milvus_a", "milvus_plain", "milvus_b_bytes_total", "up"} <= names
    assert SECRET.encode() in text.requests[0].path_qs.encode()  # the target did get it
    assert SECRET.encode() not in gateway.wire
    for file in (tmp_path / "spool").rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
    assert (tmp_path / "identity" / "pseudonym.key").read_bytes() not in gateway.wire


async def test_the_search_would_have_found_them(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway, run_target(Page(TEXT_PAGE.encode())) as port:
        config = write_config(tmp_path, gateway.url, scrape_configs=[static_job(port)], policy={"enabled": False})
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        await until(lambda: any(name.startswith("name_") for name, _, _ in gateway.rows()))
        await collector.service.shutdown()
    assert SECRET.encode() in gateway.wire
    assert f"help-{SECRET}".encode() not in gateway.wire  # HELP texts stay even then


def allow(unlisted: Unlisted = Unlisted.REMOVE, **fields: object) -> AllowList:
    rule = AllowRule.model_validate({"metrics": ["m_*", "exact"], "labels": ["a"], "pseudonyms": ["p"], **fields})
    return AllowList(
        PolicySettings(allow=(rule.model_copy(update={"unlisted": unlisted}),), drop=("m_private*",)), KEY
    )


@pytest.mark.parametrize(
    ("family", "name", "leaves"),
    [("m_x", "m_x", True), ("exact", "exact_bucket", True), ("other", "other", False), ("x", "xm_x", False),
     ("m_private", "m_private", False), ("m_private", "m_private_sum", False), ("EXACT", "EXACT", False)],
)  # fmt: skip
def test_what_no_rule_names_stays(family: str, name: str, leaves: bool) -> None:
    assert (allow().admit(family, {"__name__": name}) is not None) is leaves


def test_a_glob_in_a_name_is_only_the_star() -> None:
    policy = AllowList(PolicySettings(allow=(AllowRule(metrics=("a?b", "c[de]", "x.y")),)), KEY)
    assert policy.admit("", {"__name__": "a?b"})
    assert policy.admit("", {"__name__": "c[de]"})
    assert not policy.admit("", {"__name__": "axb"})
    assert not policy.admit("", {"__name__": "cd"})
    assert not policy.admit("", {"__name__": "xzy"})


def test_unlisted_labels_by_choice() -> None:
    labels = {"__name__": "m_1", "a": "1", "z": "2"}
    assert allow().admit("m_1", labels) == {"__name__": "m_1", "a": "1"}
    assert allow(Unlisted.DROP_SERIES).admit("m_1", labels) is None
    hidden = allow(Unlisted.PSEUDONYM).admit("m_1", labels)
    assert hidden is not None
    assert hidden["z"].startswith("p-")
    assert allow(labels=["*"]).admit("m_1", labels) == labels


def test_pseudonyms_are_stable_differ_by_label_and_key_and_win_over_every_label() -> None:
    policy = allow(labels=["*"])
    first = policy.admit("m_1", {"__name__": "m_1", "p": "x"})
    second = policy.admit("m_2", {"__name__": "m_2", "p": "x"})
    assert first is not None
    assert second is not None
    assert first["p"] == second["p"] == policy.pseudonym("p", "x") != policy.pseudonym("q", "x")
    assert AllowList(PolicySettings(), b"another-key-of-32-bytes").pseudonym("p", "x") != first["p"]
