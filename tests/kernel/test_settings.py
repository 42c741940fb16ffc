"""Settings: each field documented, each error naming file and field, no secret repeated."""

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from kernel.deployment import Deployment
from kernel.deployment_settings import DeploymentSettings
from kernel.errors import InvalidInput
from kernel.settings import Section, Settings, documented_fields, load_settings, parse_yaml, read_yaml_mapping
from tests.effort import costly

SECRET = "hunter2-hunter2"


class Inner(Section):
    port: int = Field(default=8443, ge=1, le=65535, description="Port.")
    password: SecretStr | None = Field(default=None, min_length=20, description="Password.")


class Example(Settings):
    inner: Inner = Inner()
    names: list[str] = Field(default_factory=list, description="Names.")


def written(folder: Path, text: str) -> Path:
    path = folder / "vendor.yaml"
    path.write_text(text)
    return path


def test_every_deployment_setting_says_what_it_does() -> None:
    fields = list(documented_fields(DeploymentSettings))
    assert len(fields) > 30
    for name, description, _default in fields:
        assert description, name
        assert len(description) > 20, name
        assert "efault" in description, f"{name} does not say its default"


def test_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "inner: {port: 1}\nnames: [a]\n")
    assert load_settings(Example, path).inner.port == 1
    monkeypatch.setenv("BYOC_INNER__PORT", "2")
    assert load_settings(Example, path).inner.port == 2
    assert load_settings(Example, None).inner.port == 2


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ("inner: {port: 70000}", "inner.port", "70000"),
        ("inner: {porto: 1}", "inner.porto", "an unknown name; allowed: port, password"),
        ("names: [1]", r"names\[0\]", "1"),
        ("- a", "top level", "list"),
        ("a: [", "line 1", "expected"),
        ("a: 1\n b: 2", "line 2", "mapping values"),
        ("!!python/object/apply:os.system ['true']", "line 1", "could not determine"),
    ],
)
def test_an_error_names_file_field_and_what_was_found(tmp_path: Path, text: str, where: str, found: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InvalidInput, match=rf"vendor.yaml: {where}.*{found}"):
        load_settings(Example, path)


def test_every_error_is_a_finding(tmp_path: Path) -> None:
    path = written(tmp_path, "inner: {port: 0}\nnames: 3\nother: 1\n")
    with pytest.raises(InvalidInput) as caught:
        load_settings(Example, path)
    assert {finding.where for finding in caught.value.findings} == {"inner.port", "names", "other"}


def test_a_secret_is_not_repeated(tmp_path: Path) -> None:
    path = written(tmp_path, f"inner: {{password: {SECRET}}}")
    with pytest.raises(InvalidInput) as caught:
        load_settings(Example, path)
    assert SECRET not in str(caught.value)
    long = written(tmp_path, f"inner: {{password: {SECRET * 2}}}")
    assert SECRET not in repr(load_settings(Example, long))


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.yaml"):
        read_yaml_mapping(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff")
    with pytest.raises(InvalidInput, match="byte 3"):
        read_yaml_mapping(binary)
    binary.write_bytes(b"x" * (4 * 1024 * 1024 + 1))
    with pytest.raises(InvalidInput, match="at most"):
        read_yaml_mapping(binary)


@given(st.text(max_size=60))
def test_any_text_is_yaml_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        parse_yaml(text, "vendor.yaml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["folder", "trust_domain", "database", "log", "objects", "lake", "url", "kind", "kafka"])


@costly(150, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3) | VALUES, max_size=3))
def test_any_deployment_section_is_one_or_refused(tmp_path: Path, content: dict[str, object]) -> None:
    path = written(tmp_path, yaml.safe_dump({"deployment": content, "gateway": {"port": 1}}))
    try:
        deployment = Deployment.from_file(path)
    except InvalidInput:
        return
    assert deployment.folder.is_absolute()


def bomb(levels: int) -> str:
    """Each level merges the one before ten times: a few hundred bytes that would take ten to the `levels` steps."""
    fields = ", ".join(f"k{number}: 1" for number in range(10))
    lines = [f"a0: &a0 {{{fields}}}"]
    lines += [
        f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, levels + 1)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (bomb(9), "expand to over"),
        (bomb(9).replace("<<:", "list:"), "expand to over"),
        ("a: &a [*a]", "holds itself"),
        ("a: &a {b: {c: *a}}", "holds itself"),
        ("a: 0x" + "f" * 5000, "a number of 5002 characters"),
        ("a: 1" + ":1" * 100_000, "a number of 200001 characters"),
        ("a: 1" + ":1" * 100_000 + ".5", "a number of 200003 characters"),
        ("a: " + "9" * 5000, "a number of 5000 characters"),
    ],
)
def test_a_small_text_that_becomes_much_is_refused_at_once(text: str, found: str) -> None:
    with pytest.raises(InvalidInput, match=found):
        parse_yaml(text, "vendor.yaml")


def test_aliases_of_a_sensible_size_are_taken() -> None:
    text = "limits: &limits {a: 1, b: [x, 1.5]}\none: *limits\ntwo: {<<: *limits, a: 2}\n"
    inner = {"a": 1, "b": ["x", 1.5]}
    assert parse_yaml(text, "vendor.yaml") == {"limits": inner, "one": inner, "two": {**inner, "a": 2}}
    assert parse_yaml("a: [0x1f, 0o17, 1_000, 1:30, .inf, 1e3, -7]", "x") == {
        "a": [31, "0o17", 1000, 90, float("inf"), "1e3", -7]
    }
