"""The policy file: what it can say, whose signature holds, which version is too old, and what is kept of it."""

from __future__ import annotations

import hmac
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from collector.cli import app
from collector.errors import PolicyRefused
from collector.gate import ShippingGate
from collector.left import LeftLedger
from collector.metrics import CollectorMetrics
from collector.policy import AllowList
from collector.policy_accepted import AcceptedPolicy
from collector.policy_changes import summarize
from collector.policy_file import load_public_key, parse_policy, read_policy, sign
from collector.policy_keeper import PolicyKeeper, load_policy
from collector.policy_selection import Fate
from collector.policy_settings import AllowRule, DropRule, PolicySettings, Unlisted
from collector.settings import CollectorSettings, load_collector_settings
from kernel.clock import VirtualClock
from kernel.errors import Conflict, InvalidInput, NotFound
from tests.collector.policy_world import policy_text, signing_key
from tests.collector.world import write_config

KEY = b"k" * 32
M = {"__name__": "m_x", "db": "shop", "cluster": "prod-1"}


def policy_of(**fields: Any) -> AllowList:
    rule = fields.pop("rule", {})
    settings = {"allow": [{"metrics": ["m_*"], "labels": ["*"], **rule}], **fields}
    return AllowList(PolicySettings.model_validate(settings), KEY)


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({}, M),
        ({"rule": {"where": {"cluster": "prod-*"}}}, M),
        ({"rule": {"where": {"cluster": ["stage", "prod-?"]}}}, None),
        ({"rule": {"where": {"cluster": "prod-*", "db": "other"}}}, None),
        ({"rule": {"where": {"absent": ""}}}, M),
        ({"rule": {"where": {"absent": "*?"}}}, None),
        ({"drop_series": [{"where": {"db": "shop"}}]}, None),
        ({"drop_series": [{"metrics": ["other"], "where": {"db": "shop"}}]}, M),
        ({"drop_series": [{"where": {"db": "shop", "cluster": "x"}}]}, M),
        ({"remove_labels": ["d*"]}, {"__name__": "m_x", "cluster": "prod-1"}),
        ({"remove_labels": ["*"]}, {"__name__": "m_x"}),
        ({"remove_labels": ["db"], "rule": {"labels": [], "unlisted": "drop_series", "pseudonyms": ["cluster"]}},
         {"__name__": "m_x", "cluster": AllowList(PolicySettings(), KEY).pseudonym("cluster", "prod-1")}),
    ],
)  # fmt: skip
def test_rules_by_label(fields: dict[str, Any], labels: dict[str, str] | None) -> None:
    policy = policy_of(**fields)
    assert policy.admit("m_x", M) == labels
    assert policy.explain("m_x", M).labels == labels


def test_the_first_rule_that_holds_decides_and_says_so() -> None:
    policy = AllowList(
        PolicySettings(
            allow=(AllowRule(metrics=("m_*",), where={"db": ("x",)}), AllowRule(metrics=("m_*",), labels=("db",))),
            drop=("m_private",),
            drop_series=(DropRule(where={"db": ("secret*",)}),),
        ),
        KEY,
    )
    decision = policy.explain("m_x", M)
    assert (decision.reason, decision.fates["db"], decision.fates["cluster"]) == (
        "allow[1]",
        Fate.KEPT,
        Fate.REMOVED,
    )
    assert policy.explain("m_x", {**M, "db": "secret-1"}).reason == "drop_series[0]"
    assert policy.explain("m", {"__name__": "m_private"}).reason == "drop: m_private"
    assert policy.explain("n", {"__name__": "n"}).reason == "no rule of allow names it"


@given(st.binary(min_size=16, max_size=200), st.text(max_size=40), st.text(max_size=40))
def test_a_pseudonym_is_the_hmac_of_name_and_value(key: bytes, name: str, value: str) -> None:
    expected = hmac.digest(key, f"{name}\0{value}".encode(), "sha256").hex()[:20]
    assert AllowList(PolicySettings(), key).pseudonym(name, value) == f"p-{expected}"


def test_exemplars_stay_unless_their_labels_are_named() -> None:
    exemplar = {"trace_id": "t", "user": "u", "span": "s"}
    assert policy_of().exemplar(exemplar) is None
    assert policy_of(exemplar_labels=["trace_id", "s*"], remove_labels=["span"]).exemplar(exemplar) == {
        "trace_id": "t"
    }


def test_a_version_is_of_rules_and_key_not_of_the_number() -> None:
    first, again, other = policy_of(), policy_of(), policy_of(drop=["x"])
    assert first.version == again.version != other.version
    assert AllowList(PolicySettings(), b"1" * 32).version != AllowList(PolicySettings(), b"2" * 32).version


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 255))
def test_any_changed_byte_breaks_the_signature(tail: bytes, at: int, change: int) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    content = policy_text(version=1).encode()
    raw = bytearray(content + sign(content, key))
    raw[at % len(raw)] ^= change
    raw += tail
    try:
        parse_policy(bytes(raw), "p").check_signature(key.public_key())
    except (InvalidInput, PolicyRefused):
        return
    # What is left to change is blank space after the signature: it is covered by nothing and means nothing.
    assert bytes(raw).rstrip() == (content + sign(content, key)).rstrip()


def signed_settings(folder: Path) -> CollectorSettings:
    file = {"path": "policy.yaml", "mode": "signed", "public_key": "policy.pub"}
    return load_collector_settings(write_config(folder, "https://g.example", policy_file=file))


def write_signed(folder: Path, key: Any, version: int, **fields: object) -> None:
    content = policy_text(version=version, **fields).encode()
    (folder / "policy.yaml").write_bytes(content + sign(content, key))


def test_only_a_newer_signed_one_takes_the_place_of_the_accepted(tmp_path: Path) -> None:
    key, other = signing_key(tmp_path), signing_key(tmp_path, "other")
    settings = signed_settings(tmp_path)
    policy = tmp_path / "policy.yaml"
    for problem in (
        lambda: None,
        lambda: policy.write_text(policy_text(version=1)),
        lambda: write_signed(tmp_path, other, 1),
        lambda: write_signed(tmp_path, key, 0),
        lambda: policy.write_text("allow: 3\n"),
    ):
        problem()
        held = load_policy(settings)
        assert (held.settings, held.problem is not None) == (None, True)
        assert held.policy.admit("up", {"__name__": "up"}) is None
    write_signed(tmp_path, key, 5)
    accepted = load_policy(settings)
    assert (accepted.problem, load_policy(settings).problem) == (None, None)  # the same again is fine
    for problem, said in (
        (lambda: write_signed(tmp_path, key, 4), "not above 5"),
        (lambda: write_signed(tmp_path, key, 5, drop=["x"]), "not above 5"),
        (lambda: write_signed(tmp_path, other, 6), "public_key is"),
        (lambda: policy.write_bytes(policy.read_bytes() + b"\n# x\n"), "one line, the last"),
        (policy.unlink, "readable file"),
    ):
        problem()
        held = load_policy(settings)
        assert said in (held.problem or "")
        assert held.policy.version == accepted.policy.version  # scraping goes on under the accepted one
    write_signed(tmp_path, key, 6)
    assert load_policy(settings, keep=False).problem is None
    write_signed(tmp_path, key, 5, drop=["y"])
    assert load_policy(settings).problem  # looking did not raise the floor, but 5 is taken
    write_signed(tmp_path, key, 6)
    assert load_policy(settings).problem is None


def test_the_accepted_copy_is_believed_no_more_than_the_file(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    settings = signed_settings(tmp_path)
    write_signed(tmp_path, key, 2)
    assert load_policy(settings).problem is None
    copy = AcceptedPolicy(settings.gateway.identity / "accepted-policy.json")
    held = copy.load(key.public_key())
    assert held is not None
    assert held.document.version == 2
    signing_key(tmp_path)  # another public key is configured now
    assert copy.load(load_public_key(tmp_path / "policy.pub")) is None
    copy.path.write_text("junk")
    assert copy.load(key.public_key()) is None


def test_a_detached_signature_and_its_accepted_copy(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    content = policy_text(version=1).encode().rstrip()  # no newline at the end
    (tmp_path / "policy.yaml").write_bytes(content)
    (tmp_path / "policy.yaml.sig").write_bytes(sign(content, key))
    settings = signed_settings(tmp_path)
    assert load_policy(settings).problem is None
    (tmp_path / "policy.yaml.sig").unlink()
    held = load_policy(settings)
    assert "no signature" in (held.problem or "")
    assert held.settings is not None


def test_an_unsigned_file_may_be_signed_and_a_bad_one_is_refused_by_field(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    write_signed(tmp_path, key, 1)
    config = write_config(tmp_path, "https://g.example", policy_file={"path": "policy.yaml"})
    settings = load_collector_settings(config)
    assert load_policy(settings).problem is None
    (tmp_path / "policy.yaml").write_text("allow:\n  - metrics: [m]\n    lables: [x]\n")
    with pytest.raises(InvalidInput, match=r"allow\[0\].lables"):
        load_policy(settings)


def test_collectors_of_a_tenant_share_their_key_by_file(tmp_path: Path) -> None:
    (tmp_path / "tenant.key").write_bytes(b"t" * 32)
    seen = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        config = write_config(tmp_path / name, "https://g.example", pseudonyms={"key_file": "../tenant.key"})
        held = load_policy(load_collector_settings(config))
        labels = held.policy.admit("milvus_a", {"__name__": "milvus_a", "db_name": "shop"})
        assert labels is not None
        seen.add(labels["db_name"])
    assert len(seen) == 1
    (tmp_path / "tenant.key").write_bytes(b"short")
    with pytest.raises(InvalidInput, match="16 secret bytes"):
        load_policy(load_collector_settings(config))


async def test_shipping_waits_until_the_change_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, ledger = ShippingGate(), LeftLedger(tmp_path / "left.sqlite", VirtualClock(), 10)
    keeper = PolicyKeeper(gate, ledger, CollectorMetrics())
    settings = load_collector_settings(write_config(tmp_path, "https://g.example"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "policy_changed", lambda _: (_ for _ in ()).throw(sqlite3.OperationalError("full")))
        await keeper.start(settings)
        assert "full" in (gate.reason() or "")
        assert keeper.live.admit("up", {"__name__": "up"})  # but it holds for what is scraped
    await keeper.refresh(settings)
    assert gate.reason() is None
    await keeper.refresh(settings)
    assert ledger.head().sequence == 1  # written down once
    ledger.close()


def test_a_change_is_told_in_words() -> None:
    old = PolicySettings(drop=("a",), allow=(AllowRule(metrics=("m",), labels=("x",)), AllowRule(metrics=("n",))))
    new = PolicySettings(drop=("b",), allow=(AllowRule(metrics=("m",), labels=("y",), where={"z": ("1",)}),))
    assert summarize(old, new) == (
        "drop: +b -a",
        "allow[0].where: {} -> {'z': ['1']}",
        "allow[0].labels: +y -x",
        "allow[1] removed: n",
    )
    assert summarize(new, new) == ()


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner()
    key, public, policy = (str(tmp_path / name) for name in ("k.pem", "policy.pub", "policy.yaml"))
    made = run.invoke(app, ["policy", "keygen", "--key", key, "--public-key", public])
    assert (made.exit_code, Path(key).stat().st_mode & 0o777) == (0, 0o600)
    assert isinstance(run.invoke(app, ["policy", "keygen", "--key", key]).exception, Conflict)
    Path(policy).write_text(policy_text(version=3).rstrip())
    for _ in range(2):  # signing again replaces the signature
        assert run.invoke(app, ["policy", "sign", policy, "--key", key]).exit_code == 0
    assert len(re.findall("byoc-policy-signature", Path(policy).read_text())) == 1
    good = run.invoke(app, ["policy", "verify", policy, "--public-key", public])
    assert ("good, version 3" in good.output, good.exit_code) == (True, 0)
    signed_settings(tmp_path)
    config = str(tmp_path / "collector.yaml")
    status = run.invoke(app, ["policy", "status", "-c", config])
    assert ("shipping: goes on" in status.output, status.exit_code) == (True, 0)
    Path(policy).write_text(Path(policy).read_text().replace("version: 3", "version: 4"))
    assert isinstance(
        run.invoke(app, ["policy", "verify", policy, "--public-key", public]).exception, PolicyRefused
    )
    status = run.invoke(app, ["policy", "status", "-c", config])
    assert ("STOPPED" in status.output, status.exit_code) == (True, 1)
    look_up = ["policy", "pseudonym", "-c", config, "db_name", "shop"]
    assert isinstance(run.invoke(app, look_up).exception, NotFound)
    load_policy(signed_settings(tmp_path))
    assert run.invoke(app, look_up).output.startswith("p-")
    Path(policy).write_text(policy_text(version=5))
    assert run.invoke(app, ["policy", "sign", policy, "--key", key, "--detached"]).exit_code == 0
    assert read_policy(Path(policy)).signature is not None
    Path(policy).write_text("allow: [")
    assert isinstance(run.invoke(app, ["policy", "sign", policy, "--key", key]).exception, InvalidInput)


NAMES = st.sampled_from(["a", "b", "job", "a1", "x.y", "secret"])
VALUES = st.one_of(st.text(max_size=5), st.sampled_from(["v", "v-1", "*", "?"]))


@given(
    st.dictionaries(NAMES, VALUES),
    st.sampled_from(["m_x", "m_y", "n", "m*"]),
    st.lists(NAMES, max_size=3),
    st.lists(NAMES, max_size=3),
    st.lists(st.sampled_from(["a*", "secret", "x.y"]), max_size=2),
    st.sampled_from(list(Unlisted)),
    st.dictionaries(NAMES, st.sampled_from(["v", "v*", "*", ""]), max_size=2),
)
def test_what_leaves_is_what_a_list_names_and_nothing_else(
    labels: dict[str, str],
    name: str,
    plain: list[str],
    hidden: list[str],
    removed: list[str],
    unlisted: Unlisted,
    where: dict[str, str],
) -> None:
    rule = {"metrics": ["m_*"], "labels": plain, "pseudonyms": hidden, "unlisted": unlisted, "where": where}
    policy = AllowList(PolicySettings.model_validate({"allow": [rule], "remove_labels": removed}), KEY)
    series = {**labels, "__name__": name}
    left = policy.admit(name, series)
    assert left == policy.admit(name, series) == policy.explain(name, series).labels
    if left is None:
        return
    assert name.startswith("m_")
    assert left.pop("__name__") == name
    for label, value in left.items():
        assert not any(label == one or (one == "a*" and label.startswith("a")) for one in removed)
        if label in hidden or label not in plain:
            assert value == policy.pseudonym(label, labels[label])
            assert label in hidden or unlisted is Unlisted.PSEUDONYM
        else:
            assert value == labels[label]
    for label, pattern in where.items():
        value = labels.get(label, "")
        assert value == pattern or (pattern.endswith("*") and value.startswith(pattern[:-1]))
