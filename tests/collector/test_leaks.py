"""Secrets in every field a target can fill, and in our own settings: none of them leaves, nor lies in the spool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from collector.app import CollectorService
from collector.policy import AllowList
from collector.policy_settings import AllowRule, PolicySettings, Unlisted
from collector.settings import load_collector_settings
from tests.collector.unpacking import readable, readable_files
from tests.collector.world import (
    Page,
    ScriptedGateway,
    run_gateway,
    run_target,
    serve,
    static_job,
    until,
    write_config,
)

SECRET = "s3cr3t"
KEY = b"k" * 32
OM = "application/openmetrics-text; version=1.0.0"
# Every secret names its field, so that a leak says where it was.
TEXT_PAGE = f"""# HELP milvus_a {SECRET}-help
# TYPE milvus_a counter
# a comment {SECRET}-comment
milvus_a{{node_id="1",collection_name="{SECRET}-pseudonym",unknown="{SECRET}-label",label_{SECRET}="1"}} 1
milvus_plain{{db_name="{SECRET}",username="{SECRET}-user",path="/data/{SECRET}-path"}} 2
milvus_old{{node_id="1",unknown="{SECRET}-dated"}} 2 1500000000000
name_{SECRET} 3
other_metric{{x="{SECRET}-denied"}} 4
{{"milvus.quoted.{SECRET}-\\"name",x="y"}} 5
milvus_escaped{{unknown="a\\"b\\n{SECRET}-escaped\\\\"}} 1
# HELP private_{SECRET} {SECRET}-private-help
# TYPE private_{SECRET} histogram
private_{SECRET}_bucket{{le="+Inf"}} 6
# TYPE milvus_latency histogram
milvus_latency_bucket{{le="1",unknown="{SECRET}-bucket"}} 6
milvus_latency_bucket{{le="+Inf",unknown="{SECRET}-bucket"}} 6
milvus_latency_sum{{unknown="{SECRET}-sum"}} 6
milvus_latency_count{{unknown="{SECRET}-count"}} 6
# TYPE type_{SECRET} gauge
"""
OM_PAGE = f"""# HELP milvus_b_bytes {SECRET}-help
# TYPE milvus_b_bytes counter
# UNIT milvus_b_bytes bytes
milvus_b_bytes_total{{node_id="1"}} 1 # {{trace_id="{SECRET}-exemplar",{SECRET}_exemplar="x"}} 0.5
milvus_b_bytes_created{{node_id="1",secret="{SECRET}-created"}} 1
# TYPE milvus_target info
milvus_target_info{{owner="{SECRET}-info"}} 1
# TYPE milvus_mode stateset
milvus_mode{{milvus_mode="{SECRET}-state"}} 1
# TYPE milvus_h histogram
milvus_h_bucket{{le="1"}} 1 # {{user="{SECRET}-bucket-exemplar"}} 0.5 1.0
milvus_h_bucket{{le="+Inf"}} 1
milvus_h_sum 1
milvus_h_count 1
# TYPE milvus_u_{SECRET} gauge
# UNIT milvus_u_{SECRET} {SECRET}
# EOF
"""


@asynccontextmanager
async def run_tricky_target(page: Page) -> AsyncIterator[int]:
    """Answers with secrets in headers, behind a redirect that carries one."""

    async def answer(request: web.Request) -> web.Response:
        response = await page.answer(request)
        response.headers["Set-Cookie"] = f"session={SECRET}-cookie"
        response.headers["X-Debug"] = f"{SECRET}-header"
        return response

    async def moved(_request: web.Request) -> web.Response:
        raise web.HTTPFound(f"/real?token={SECRET}-redirect")

    app = web.Application()
    app.add_routes([web.get("/metrics", moved), web.get("/real", answer)])
    async with serve(app) as port:
        yield port


def tricky_jobs(folder: Path, *ports: int) -> list[dict[str, Any]]:
    """Secrets in each field of a job that names or reaches a target."""
    (folder / "password").write_text(f"{SECRET}-password")
    (folder / "bearer").write_text(f"{SECRET}-bearer")
    (folder / f"{SECRET}-targets.yaml").write_text(
        yaml.safe_dump([{"targets": [f"127.0.0.1:{ports[1]}"], "labels": {"__meta_x": f"{SECRET}-meta"}}])
    )
    basic = {"username": f"{SECRET}-basic-user", "password_file": "password"}
    first = static_job(*ports, params={"token": [f"{SECRET}-query"]}, basic_auth=basic)
    first["job_name"] = f"{SECRET}-job"
    first["static_configs"] = [
        {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"owner": f"{SECRET}-o"}}
    ]
    second: dict[str, Any] = {"job_name": "files", "bearer_token_file": "bearer"}
    second["file_sd_configs"] = [{"files": [f"{SECRET}-*.yaml"]}]
    return [first, second]


def assert_nothing_left(folder: Path, gateway: ScriptedGateway) -> None:
    secret = SECRET.encode()
    assert gateway.requests
    for received in gateway.requests:
        shown = readable(received.raw)
        assert secret not in shown, shown[shown.find(secret) - 40 : shown.find(secret) + 60]
    assert secret not in gateway.wire
    for path, content in readable_files(folder / "spool"):
        assert secret not in content, (path, content[content.find(secret) - 60 : content.find(secret) + 60])
    assert (folder / "identity" / "pseudonym.key").read_bytes() not in gateway.wire


async def test_no_secret_leaves(tmp_path: Path) -> None:
    text, openmetrics = Page(TEXT_PAGE.encode()), Page(OM_PAGE.encode(), OM)
    broken = Page(f"milvus_a 1\nbroken {SECRET}-broken\n".encode())
    policy = PolicySettings().model_dump(mode="json")
    rule = policy["allow"][0]
    rule["labels"] = [name for name in rule["labels"] if name != "job"]  # a job's name is one's own
    # A text of a series with a pseudonym stays all the same, and that of a family of which nothing leaves.
    policy["help_texts"] = ["milvus_a", "private_*", "milvus_u_*"]
    async with (
        run_gateway(tmp_path) as gateway,
        run_tricky_target(text) as one,
        run_target(openmetrics) as two,
        run_target(broken) as three,
    ):
        config = write_config(
            tmp_path,
            gateway.url,
            scrape_configs=tricky_jobs(tmp_path, one, two, three),
            policy=policy,
            **{"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "external_labels": {"e": SECRET}}},
        )
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        await until(lambda: len(gateway.taken) >= 9 and openmetrics.scrapes >= 3 and text.scrapes >= 3)
        await collector.service.shutdown()
    left = {family.name for family in collector.shipping.ledger.families()}
    assert {"milvus_a", "milvus_plain", "milvus_b_bytes", "milvus_h", "milvus_latency", "up"} <= left
    assert SECRET.encode() in text.requests[0].path_qs.encode()  # the target did get it
    assert_nothing_left(tmp_path, gateway)
    assert SECRET not in "\n".join(map(str, collector.service.amiss().values()))


async def test_an_exemplar_leaves_only_with_labels_that_the_policy_names(tmp_path: Path) -> None:
    page = Page(OM_PAGE.encode().replace(b'trace_id="s3cr3t-exemplar"', b'trace_id="t-named"'), OM)
    async with run_gateway(tmp_path) as gateway, run_target(page) as port:
        rule = {"metrics": ["milvus_*", "up"], "labels": ["node_id", "le"]}
        policy = {"allow": [rule], "exemplar_labels": ["trace_id"]}
        config = write_config(tmp_path, gateway.url, scrape_configs=[static_job(port)], policy=policy)
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        await until(lambda: any(b"t-named" in readable(received.raw) for received in gateway.requests))
        await collector.service.shutdown()
    assert_nothing_left(tmp_path, gateway)


async def test_the_search_would_have_found_them(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway, run_target(Page(TEXT_PAGE.encode())) as port:
        config = write_config(tmp_path, gateway.url, scrape_configs=[static_job(port)], policy={"enabled": False})
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        await until(lambda: any(name.startswith("name_") for name, _, _ in gateway.rows()))
        await collector.service.shutdown()
    sent = b"".join(readable(received.raw) for received in gateway.requests)
    assert SECRET.encode() in sent
    assert f"{SECRET}-help".encode() in sent  # without a policy HELP texts leave too
    spooled = {path.suffix for path, content in readable_files(tmp_path / "spool") if SECRET.encode() in content}
    assert ".sqlite" in spooled


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
