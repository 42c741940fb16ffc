"""Templates print what Prometheus prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.settings import DEFAULT_RULES
from alerts.template import parse_template
from tests.services.fixtures import Services
from tests.services.process import find_program

ACTIONS = (
    "{{ $value }}",
    "{{$value|humanize}}",
    "{{ $value | humanizePercentage }}",
    "{{ $value | humanizeDuration }}",
    '{{ $value | printf "%.2f" }}',
    '{{ printf "%.3g and 100%%" $value }}',
    '{{ printf "%e" $value }}',
    '{{ printf "%g" $value }}',
    '{{ printf "%v" $value }}',
)
VALUES = (0.0, 1.0, -1.0, 0.7, 99.95, 1234567.0, 999999.0, 1.5e-7, 0.000123, 86461.0, 3661.5, 59.999, -250.25, 1e6)


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("{{ $labels.room }}: {{ $value }}", 35.0, "attic: 35"),
        ("{{ $labels.missing }}|", 1.0, "|"),
        ("{{ $value | humanize }}", 1234567.0, "1.235M"),
        ("{{ $value | humanize }}", 0.0123, "12.3m"),
        ("{{ $value | humanizePercentage }}", 0.7, "70%"),
        ("{{ $value | humanizeDuration }}", 90061.0, "1d 1h 1m 1s"),
        ("{{ $value | humanizeDuration }}", 0.25, "250ms"),
        ('{{ printf "%.2f" $value }}', 1.005, "1.00"),
        ("{{ $value }}", float("inf"), "+Inf"),
        ("{{ $value }}", 1e21, "1e+21"),
        ("{{ $value }}", 0.00001, "1e-05"),
        ("no action", 1.0, "no action"),
    ],
)
def test_a_template_prints(text: str, value: float, shown: str) -> None:
    assert parse_template(text).render({"room": "attic"}, value) == shown


def test_a_label_is_text_and_never_a_template() -> None:
    """A tenant chooses label values; what it writes there is not evaluated."""
    assert parse_template("{{ $labels.a }}").render({"a": "{{ $value }}"}, 1.0) == "{{ $value }}"


@pytest.mark.parametrize(
    "text",
    [
        "{{ query `up` }}",
        "{{ if $value }}x{{ end }}",
        "{{ $externalURL }}",
        "{{ $value | title }}",
        '{{ printf "%s" $value }}',
        '{{ printf "%d" $value }}',
        '{{ printf "%f%f" $value }}',
        "{{- $value }}",
        "{{ .Value }}",
        "{{",
        "{{}}",
        "x" * 20_000,
    ],
)
def test_what_is_not_supported_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_template(text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='{}$value|labels. humanize"%printf2', max_size=60), st.floats())
def test_any_text_renders_or_is_refused(text: str, value: float) -> None:
    try:
        template = parse_template(text)
    except ValueError:
        return
    template.render({}, value)


@pytest.mark.services
def test_promtool_prints_the_same(test_services: Services, tmp_path: Path) -> None:
    """Prometheus' own rule tester renders every action with every value, and finds what we render."""
    program = find_program("promtool", how_to_get="apt-get install prometheus")
    annotations = {f"a{index}": action for index, action in enumerate(ACTIONS)}
    rule = {"alert": "A", "expr": "x", "annotations": annotations}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    expected = [
        {
            "exp_labels": {"n": str(number)},
            "exp_annotations": {
                name: parse_template(text).render({"n": str(number)}, value) for name, text in annotations.items()
            },
        }
        for number, value in enumerate(VALUES)
    ]
    series = [{"series": f'x{{n="{number}"}}', "values": repr(value)} for number, value in enumerate(VALUES)]
    test = {
        "input_series": series,
        "alert_rule_test": [{"eval_time": "0s", "alertname": "A", "exp_alerts": expected}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]}))
    done = subprocess.run(
        [program, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.services
def test_prometheus_would_load_the_rules_that_come_with_byoc() -> None:
    program = find_program("promtool", how_to_get="apt-get install prometheus")
    done = subprocess.run(
        [program, "check", "rules", str(DEFAULT_RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
