"""collector.yaml: every setting is documented, the example is complete, a wrong one is named by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from collector.cli import app
from collector.client.settings import Authorization, BasicAuth, TlsSettings
from collector.policy_settings import AllowRule, DropRule, PolicyDocument, PolicyFileSettings
from collector.remote_write.settings import QueueSettings, RemoteWriteSettings
from collector.scrape.discovery_settings import (
    HttpSdConfig,
    KubernetesSdConfig,
    NamespaceSettings,
    SelectorSettings,
)
from collector.scrape.settings import FileSdConfig, RelabelSettings, ScrapeConfig, StaticConfig
from collector.settings import CollectorSettings, ProxySettings, load_collector_settings
from collector.spelling import parse_duration, parse_size
from kernel.errors import InvalidInput
from kernel.settings import documented_fields
from tests.effort import costly

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "collector.example.yaml"
NESTED = (AllowRule, Authorization, BasicAuth, DropRule, FileSdConfig, HttpSdConfig, KubernetesSdConfig,
          NamespaceSettings, PolicyDocument, PolicyFileSettings, ProxySettings, QueueSettings, RelabelSettings,
          RemoteWriteSettings, ScrapeConfig, SelectorSettings, StaticConfig, TlsSettings)  # fmt: skip


@pytest.mark.parametrize("model", [CollectorSettings, *NESTED], ids=lambda model: model.__name__)
def test_every_setting_says_what_it_is(model: Any) -> None:
    assert [name for name, text, _ in documented_fields(model) if not text or len(text) < 15] == []


def test_the_limit_that_is_not_prometheus_says_so_where_it_is_set() -> None:
    assert "Prometheus fails the whole scrape" in (ScrapeConfig.model_fields["sample_limit"].description or "")
    assert "## Differs from Prometheus\n- `sample_limit`" in (ROOT / "collector" / "README.md").read_text()
    assert "Prometheus fails" in EXAMPLE.read_text()


def test_the_example_is_good_and_names_every_section_and_job_setting(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    (tmp_path / "collector.yaml").write_text(text)
    loaded = load_collector_settings(tmp_path / "collector.yaml")
    assert [job.job_name for job in loaded.scrape_configs] == ["milvus", "byoc-exporter"]
    names = {name.rpartition(".")[2] for name, _, _ in documented_fields(CollectorSettings)}
    names |= set(ScrapeConfig.model_fields) | set(TlsSettings.model_fields) | set(AllowRule.model_fields)
    names -= {"bearer_token", "global_", "username", "password"}
    assert {name for name in names if f"{name}:" not in text} == set()


def write(folder: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {"gateway": {"url": "https://g.example"}, **changes}
    path = folder / "collector.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def job(**fields: Any) -> dict[str, Any]:
    return {"job_name": "j", "static_configs": [{"targets": ["h:1"]}], **fields}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"gateway": {"url": "http://g.example"}}, "gateway.url"),
        ({"gateway": {"url": "https://g.example/path"}}, "gateway.url"),
        ({"gateway": {}}, "gateway.url"),
        ({"unknown": 1}, "unknown"),
        ({"scrape_configs": [job(scrape_interval="15")]}, "scrape_configs[0].scrape_interval"),
        ({"scrape_configs": [job(scrape_interval="5s", scrape_timeout="6s")]}, "document"),
        ({"scrape_configs": [job(), job()]}, "document"),
        ({"scrape_configs": [job(consul_sd_configs=[])]}, "scrape_configs[0].consul_sd_configs"),
        ({"scrape_configs": [job(kubernetes_sd_configs=[{"role": "node"}])]}, "kubernetes_sd_configs[0].role"),
        ({"scrape_configs": [job(kubernetes_sd_configs=[{"role": "pod", "bearer_token": "x"}])]},
         "kubernetes_sd_configs[0]"),
        ({"scrape_configs": [job(kubernetes_sd_configs=[{"role": "pod", "selectors": [{"role": "service"}]}])]},
         "kubernetes_sd_configs[0]"),
        ({"scrape_configs": [job(http_sd_configs=[{"url": "ftp://h"}])]}, "http_sd_configs[0].url"),
        ({"scrape_configs": [job(http_sd_configs=[{"url": "http://u:p@h"}])]}, "http_sd_configs[0].url"),
        ({"remote_write": [{"url": "h"}]}, "remote_write[0].url"),
        ({"remote_write": [{"url": "http://h", "headers": {"User-Agent": "x"}}]}, "remote_write[0].headers"),
        ({"remote_write": [{"url": "http://h"}, {"url": "http://h?x"}]}, "document"),
        ({"remote_write": [{"url": "http://h", "queue_config": {"max_samples_per_send": 10_001}}]},
         "remote_write[0].queue_config.max_samples_per_send"),
        ({"scrape_configs": [job(no_proxy="h")]}, "scrape_configs[0]"),
        ({"scrape_configs": [job(proxy_url="http://h", proxy_from_environment=True)]}, "scrape_configs[0]"),
        ({"scrape_configs": [job(static_configs=[{"targets": ["http://h:1"]}])]}, "static_configs[0].targets"),
        ({"scrape_configs": [job(relabel_configs=[{"regex": "("}])]}, "relabel_configs[0]"),
        ({"scrape_configs": [job(relabel_configs=[{"action": "hashmod", "target_label": "x"}])]}, "relabel_con"),
        ({"scrape_configs": [job(tls_config={"cert_file": "c.pem"})]}, "tls_config"),
        ({"scrape_configs": [job(basic_auth={}, bearer_token="x")]}, "scrape_configs[0]"),
        ({"policy": {"allow": [{"metrics": []}]}}, "policy.allow[0].metrics"),
        ({"policy": {"allow": [{"metrics": ["m x"]}]}}, "policy"),
        ({"policy": {"drop_series": [{"metrics": ["m"]}]}}, "policy.drop_series[0].where"),
        ({"policy_file": {"mode": "signed", "path": "p.yaml"}}, "policy_file"),
        ({"policy_file": {"path": "p.yaml"}, "policy": {"drop": ["m"]}}, "document"),
        ({"left": {"hours_kept": "1h"}}, "left.hours_kept"),
        ({"spool": {"billing_quota": "1KB"}}, "spool.billing_quota"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_and_nothing_runs(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        load_collector_settings(write(tmp_path, **changes))
    assert any(where in finding.where for finding in refusal.value.findings), refusal.value


def test_secrets_are_not_in_errors_nor_in_the_settings_as_printed(tmp_path: Path) -> None:
    path = write(tmp_path, scrape_configs=[job(bearer_token="hush", scrape_timeout="never")])
    with pytest.raises(InvalidInput) as refusal:
        load_collector_settings(path)
    assert "hush" not in str(refusal.value)
    loaded = load_collector_settings(write(tmp_path, scrape_configs=[job(bearer_token="hush")]))
    assert "hush" not in repr(loaded)


def test_check_config_ends_with_2_for_a_bad_file(tmp_path: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(app, ["run", "-c", str(write(tmp_path)), "--check-config"])
    assert (good.exit_code, "good" in good.output) == (0, True)
    bad = runner.invoke(app, ["run", "-c", str(write(tmp_path, nonsense=1)), "--check-config"])
    assert isinstance(bad.exception, InvalidInput)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("1h1m1s1ms", 3661.001), ("0", 0), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "1s1m", "-1s", "1.5s", "s", "1 s", 15, None, True, "99999999y"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("10MB", 10 * 2**20), ("1GiB", 2**30), (7, 7), ("1KB", 1024)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@costly(100)
@given(st.one_of(st.text(max_size=12), st.integers(), st.none()))
def test_any_spelling_is_read_or_refused(text: object) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "is allowed" in str(error)  # noqa: PT017 - either outcome is right
