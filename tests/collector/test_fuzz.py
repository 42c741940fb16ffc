"""Whatever a person writes into a file of the collector's is taken or refused; nothing else comes out."""

# ruff: noqa: E501 - tables of words

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from collector.app import make_policy
from collector.discovery import static_targets
from collector.discovery.files import FileDiscovery, read_target_file
from collector.policy_settings import AllowRule
from collector.relabel import Action, RelabelRule, relabel
from collector.scrape.settings import FileSdConfig, RelabelSettings, ScrapeConfig, StaticConfig
from collector.scrape.target import Discovered, Target, make_targets
from collector.settings import CollectorSettings, load_collector_settings
from kernel.errors import InvalidInput
from tests.effort import costly

FAST = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
ITEMS = {"scrape_configs": ScrapeConfig, "static_configs": StaticConfig, "file_sd_configs": FileSdConfig,
         "relabel_configs": RelabelSettings, "metric_relabel_configs": RelabelSettings, "allow": AllowRule}  # fmt: skip

words = st.sampled_from(
    ["", "0", "a", "h:1", "[::1]:9", "[", "h:port", "15s", "1m30s", "-1s", "1e9y", "64MB", "9" * 99, "NaN", "*", "m_*",
     "http://h:1", "https://g.example", "https://u:p@g", "https://[", "replace", "hashmod", "labelmap", "(.*)", "(",
     "$1", "${1}", "${²}", "$99999999999999999999", "${}", "\\1", "\x00", "\ud800", "x" * 5000, "~", "/", ".", "../..",
     "remove", "drop_series", "é\n\t"]
)  # fmt: skip
text = words | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text | st.binary(max_size=3) | st.dates()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=6
)


@cache
def section(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Some keys of a section, most with something of the right shape, and now and then one that is none."""
    fields = {field.alias or name: value_of(name, field.annotation) for name, field in model.model_fields.items()}
    some = st.fixed_dictionaries({}, optional=fields)
    return st.one_of(some, some, st.builds(lambda known, other: {**known, **other}, some, unknown))


GOOD: dict[str, list[Any]] = {
    "scrape_interval": ["15s"], "scrape_timeout": ["1s", "500ms"], "refresh_interval": ["5s"], "scheme": ["https"],
    "params": [{"a": ["1", "2"]}, {"": [""]}], "targets": [["h:1"], ["h:1", "[::1]:9"]], "labels": [{"a": "b", "__x": ""}],
    "files": [["*.yaml"], ["x" * 5000], ["\x00"]], "proxy_url": ["http://u:p@h"], "regex": ["(.*)", "a|(b)"],
    "source_labels": [["a", "__address__"]], "target_label": ["__address__", "__scheme__", "__param_", "a", "$1"],
    "replacement": ["$1", "${²}", "$99999999999999999999", "[", "http", "h:1"], "modulus": [1, 2**70], "unlisted": ["pseudonym"],
    "metrics_path": ["", "x", "/é ?#"], "action": [one.value for one in Action], "username": ["u"], "password_file": ["p", "\x00"],
    "password": ["p"], "credentials": ["c"], "ca_file": ["x" * 5000, "\x00", "."], "metrics": [["m_*"], ["["]],
}  # fmt: skip
unknown = st.dictionaries(text, anything, max_size=1)


def value_of(name: str, annotation: Any) -> st.SearchStrategy[Any]:
    likely = [st.sampled_from(GOOD[name])] * 6 if name in GOOD else []
    return st.one_of(*likely, _value_of(name, annotation))


def _value_of(name: str, annotation: Any) -> st.SearchStrategy[Any]:
    if name in ITEMS:
        return st.lists(section(ITEMS[name]), max_size=2) | anything
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return section(annotation) | anything
    inner = [
        one for one in getattr(annotation, "__args__", ()) if isinstance(one, type) and issubclass(one, BaseModel)
    ]
    return section(inner[0]) | anything if inner else text | anything | st.lists(text, max_size=3)


def refused_or(read: Callable[[Path], Any], name: str, content: bytes) -> Any:
    """What `read` makes of a file; None when it is refused with findings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return read(path)
        except InvalidInput as error:
            return None if error.findings else error


def as_yaml(content: Any) -> bytes:
    dumped: str = yaml.dump(content, allow_unicode=False)
    return dumped.encode("utf-8", "surrogatepass")


def loaded_whole(path: Path) -> CollectorSettings:
    """The settings, and everything that is made of them before the first scrape."""
    loaded = load_collector_settings(path)
    inside = loaded.gateway.model_copy(update={"identity": path.parent / "identity"})
    make_policy(loaded.model_copy(update={"gateway": inside}))
    for job in loaded.scrape_configs:
        for target in make_targets(job, loaded.global_, static_targets(job.static_configs)):
            assert isinstance(target, Target)
        FileDiscovery(job.file_sd_configs).refresh()
    repr(loaded)
    return loaded


@given(section(CollectorSettings))
@costly(100, FAST)
def test_settings_of_any_shape_are_read_or_refused(content: dict[str, Any]) -> None:
    refused_or(loaded_whole, "collector.yaml", as_yaml(content))


@given(section(ScrapeConfig), section(CollectorSettings.model_fields["policy"].annotation))  # type: ignore[arg-type]
@costly(100, FAST)
def test_a_job_and_a_policy_of_any_shape_in_a_good_file(job: dict[str, Any], policy: dict[str, Any]) -> None:
    """The rest is good, so that these are what decides."""
    content = {"gateway": {"url": "https://g.example"}, "scrape_configs": [{"job_name": "j", **job}]}
    refused_or(loaded_whole, "collector.yaml", as_yaml({**content, "policy": policy}))
    refused_or(loaded_whole, "collector.yaml", as_yaml(content))


structure = st.sampled_from([*":-[]{}#&*!|>'\"%@`, \n\t?", "<<", "!!binary", "0x", "1_0", "2001-01-01", "\\x00"])


@given(st.lists(text | structure, max_size=25).map("".join) | st.binary(max_size=40))
@example("&a [*a]")
@example("? [a]\n: b")
@example("{" * 500)
@settings(FAST, max_examples=100)
def test_text_of_any_kind_is_no_settings_file_and_no_target_file(content: str | bytes) -> None:
    body = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    assert refused_or(loaded_whole, "collector.yaml", body) is None  # it names no gateway
    found = refused_or(read_target_file, "targets.json", body)
    assert found is None or all(isinstance(one, Discovered) for one in found)


@given(st.lists(section(StaticConfig), max_size=3) | anything)
@costly(100, FAST)
def test_target_files_of_any_shape_are_read_or_refused(content: Any) -> None:
    found = refused_or(read_target_file, "targets.yaml", as_yaml(content))
    job = ScrapeConfig(job_name="j")
    for target in make_targets(job, CollectorSettings.model_fields["global_"].default, found or []):
        assert target.url.startswith("http://")


label_text = words.filter(lambda one: one != "\ud800") | st.text(max_size=8)
rules = st.builds(
    RelabelRule,
    action=st.sampled_from(Action),
    source_labels=st.lists(st.sampled_from(["a", "b", "__name__", "z"]) | label_text, max_size=3).map(tuple),
    separator=label_text,
    regex=st.sampled_from(["(.*)", "(a)|(b)", "(?P<n>.)(.*)", "", "[^x]+", "a{2,3}"]),
    modulus=st.integers(1, 2**70),
    target_label=st.sampled_from(["a", "d", "x_$1", "$1"]) | label_text,
    replacement=label_text | st.text(alphabet="${}n019²a", max_size=8),
)


@given(st.dictionaries(st.sampled_from("ab") | label_text, label_text, max_size=4), st.lists(rules, max_size=4))
@example({"a": "x"}, [RelabelRule(source_labels=("a",), target_label="d", replacement="${²}")])
@example({"a": "x"}, [RelabelRule(source_labels=("a",), target_label="d", replacement="$" + "9" * 5000)])
@costly(200, FAST)
def test_relabelling_gives_labels_with_values_or_drops(labels: dict[str, str], chosen: list[RelabelRule]) -> None:
    before = dict(labels)
    changed = relabel(labels, chosen)
    assert labels == before
    assert changed is None or all(name and value for name, value in changed.items() if name not in before)


@given(text | st.text(alphabet="()[]{}\\|?*+^$.,-a0P<>:=!", max_size=20))
@FAST
def test_an_expression_is_compiled_or_refused(pattern: str) -> None:
    try:
        rule = RelabelRule(regex=pattern, source_labels=("a",), target_label="b")
    except ValueError as error:
        assert "RE2" in str(error)  # noqa: PT017 - either outcome is right
    else:
        relabel({"a": "aaa0"}, [rule])
