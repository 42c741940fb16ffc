"""The monthly report as a PDF, in English or Chinese: words and figures are made here, typst sets them.

The document's date is the end of the month, fonts are those of the compiler and Noto Sans CJK of a package, none of
the machine, and what varies enters as data, never as markup: the same report gives the same bytes everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import noto_cjk_sans_otc
import typst

from kernel.clock import from_ms
from kernel.errors import InvalidInput
from kernel.quantity import render_fraction, vcpu_hours
from kernel.window import HOUR_MS, Window, parse_zone
from metering.usage.filling import Filled
from metering.usage.reconciliation import DifferenceSpan, Reconciliation
from metering.usage.report import DayTotal, Gap, LicenceCoverage, MonthlyReport
from metering.usage.report_json import render_json

_TEMPLATE = Path(__file__).parent / "templates" / "usage_report.typ"
_GAPS_SHOWN = 14
_PER_MILLION = 1_000_000
Labels = Mapping[str, str]
_TICKS = 4
_STEPS = (Fraction(1), Fraction(2), Fraction(5, 2), Fraction(5), Fraction(10))


def render_pdf(report: MonthlyReport, language: str = "en") -> bytes:
    """A PDF/A-3 with the canonical JSON attached to it. Blocking, about a tenth of a second."""
    return _compile(report, language, pdf_standards="a-3b", timestamp=report.window.end_ms // 1000)


def render_png(report: MonthlyReport, language: str = "en") -> bytes:
    """The first page as an image, to look at."""
    return _compile(report, language, format="png", ppi=110)


def _compile(report: MonthlyReport, language: str, **options: Any) -> bytes:
    figures = json.dumps(pdf_figures(report, language), sort_keys=True, ensure_ascii=False)
    compiled = typst.compile(
        _template(),
        ignore_system_fonts=True,
        font_paths=[str(Path(str(noto_cjk_sans_otc.FONT_PATH)).parent)],
        sys_inputs={"figures": figures, "attachment": render_json(report).decode()},
        **options,
    )
    return bytes(compiled[0] if isinstance(compiled, list) else compiled)


@cache
def _template() -> bytes:
    return _TEMPLATE.read_bytes()


@cache
def _labels() -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = json.loads(_TEMPLATE.with_name("labels.json").read_text("utf-8"))
    return found


def labels_of(language: str) -> Mapping[str, str]:
    """The words of the report. Raises InvalidInput for a language that has none."""
    known = _labels()
    if language not in known:
        raise InvalidInput.single("usage report", "language", repr(language), ", ".join(sorted(known)))
    return known[language]


def pdf_figures(report: MonthlyReport, language: str = "en") -> dict[str, Any]:
    """Everything the template shows, as text; lengths of the chart in millionths of its height."""
    say, zone = labels_of(language), parse_zone(report.zone)
    first = from_ms(report.window.start_ms).astimezone(zone)
    return {
        "language": language,
        "labels": say,
        "organization": report.organization,
        "month": report.month,
        "month_words": say["month"].format(month_name=f"{first:%B}", month=first.month, year=first.year),
        "zone": report.zone,
        "period": _between(report.window, zone, say),
        "sealed": report.sealed,
        "digest": report.revision_digest,
        "tiles": _tiles(report, zone, say),
        "licence": report.coverage and _licence(report.coverage, say),
        "chart": _chart(report.days, with_capacity=report.coverage is not None),
        "components": _components(report),
        "total": _hours(report.milli_vcpu_ms),
        "missing": _missing(report, zone, say),
        "reconciliation": _reconciliation(report.reconciliation, zone, say),
    }


def _tiles(report: MonthlyReport, zone: ZoneInfo, say: Labels) -> list[dict[str, str]]:
    tiles = [{"name": say["usage"], "value": _hours(report.milli_vcpu_ms), "unit": say["vcpu-hours"]}]
    if report.coverage is None:
        tiles.append({"name": say["capacity"], "value": "-", "unit": say["no-capacity"]})
    else:
        capacity = report.coverage.capacity_milli_vcpu_ms
        tiles.append({"name": say["capacity"], "value": _hours(capacity), "unit": say["vcpu-hours"]})
        minutes = _shown(report.coverage.overage_vcpu_minutes, 2)
        tiles.append({"name": say["over"], "value": minutes, "unit": say["vcpu-minutes"]})
    if report.peak is None:
        tiles.append({"name": say["peak"], "value": "0", "unit": say["nothing-used"]})
    else:
        peak = _trimmed(Fraction(report.peak.milli_vcpu, 1000))
        tiles.append({"name": say["peak"], "value": f"{peak} vCPU", "unit": _local(report.peak.at_ms, zone)})
    return tiles


def _licence(coverage: LicenceCoverage, say: Labels) -> list[dict[str, str]]:
    used = "-" if coverage.used_share is None else _percent(coverage.used_share)
    lines = [
        (say["coverage-capacity"], f"{_hours(coverage.capacity_milli_vcpu_ms)} {say['vcpu-hours']}"),
        (
            say["coverage-within"],
            f"{_hours(coverage.within_milli_vcpu_ms)} {say['vcpu-hours']}" + say["of-capacity"].format(share=used),
        ),
        (say["coverage-over"], f"{_shown(coverage.overage_vcpu_minutes, 2)} {say['vcpu-minutes']}"),
        (
            say["coverage-time"],
            _time(coverage.over_ms) + say["of-month"].format(share=_percent(coverage.over_share)),
        ),
    ]
    return [{"name": name, "value": value} for name, value in lines]


def _components(report: MonthlyReport) -> list[dict[str, Any]]:
    return [
        {
            "project": total.project,
            "cluster": total.cluster,
            "component": total.component,
            "hours": _hours(total.milli_vcpu_ms),
            "peak": _shown(Fraction(total.peak_milli_vcpu, 1000), 3),
            "observed": _time(total.observed_ms),
            "missing": _time(total.missing_ms),
            "incomplete": total.missing_ms > 0,
        }
        for total in report.components
    ]


def _missing(report: MonthlyReport, zone: ZoneInfo, say: Labels) -> dict[str, Any]:
    share = _percent(Fraction(report.missing_ms, max(1, report.observed_ms + report.missing_ms)))
    return {
        "any": report.missing_ms > 0,
        "observed": _time(report.observed_ms),
        "hours": _time(report.missing_ms),
        "none": say["missing-none"].format(observed=_time(report.observed_ms)),
        "words": say["missing-hours"].format(hours=_time(report.missing_ms), share=share),
        "estimated": _estimated(report.estimated, say),
        "gaps": [_gap(gap, zone, say) for gap in report.gaps[:_GAPS_SHOWN]],
        "more": _more(len(report.gaps), say),
    }


def _estimated(filled: Filled | None, say: Labels) -> str:
    if filled is None:
        return ""
    return say["estimated"].format(hours=_time(filled.estimated_ms), quantity=_hours(filled.milli_vcpu_ms))


def _more(count: int, say: Labels) -> str:
    return say["more"].format(count=count - _GAPS_SHOWN) if count > _GAPS_SHOWN else ""


def _reconciliation(found: Reconciliation | None, zone: ZoneInfo, say: Labels) -> dict[str, Any]:
    if found is None:
        return {"words": say["not-compared"], "spans": [], "more": ""}
    spans = found.spans()
    name = "some-differ" if found.differing else "all-agree" if found.compared else "not-compared"
    words = say[name].format(hours=found.compared, differing=found.differing)
    shown = [_difference(span, zone, say) for span in spans[:_GAPS_SHOWN]]
    return {"words": words, "spans": shown, "more": _more(len(spans), say)}


def _difference(span: DifferenceSpan, zone: ZoneInfo, say: Labels) -> dict[str, str]:
    least, most = _hours(span.least), _hours(span.most)
    return {
        "cluster": span.cluster,
        "difference": say[f"difference-{span.difference}"],
        "between": _between(span.window, zone, say),
        "scraped": _hours(span.scraped),
        "declared": least if least == most else f"{least} - {most}",
    }


def _gap(gap: Gap, zone: ZoneInfo, say: Labels) -> dict[str, str]:
    return {
        "cluster": gap.cluster,
        "component": gap.component,
        "between": _between(gap.window, zone, say),
        "hours": _time(gap.missing_ms),
    }


def _chart(days: Sequence[DayTotal], *, with_capacity: bool) -> dict[str, Any]:
    highest = max(max(day.milli_vcpu_ms, day.capacity_milli_vcpu_ms) for day in days)
    step = tick_step(vcpu_hours(highest))
    top = step * _TICKS

    def height(milli_vcpu_ms: int) -> int:
        return int(vcpu_hours(milli_vcpu_ms) * _PER_MILLION / top)

    def bar(day: DayTotal) -> dict[str, Any]:
        over = day.overage_milli_vcpu_ms if with_capacity else 0
        return {
            "label": str(day.day.day),
            "within": height(day.milli_vcpu_ms - over),
            "over": height(over),
            "capacity": height(day.capacity_milli_vcpu_ms) if with_capacity else None,
            "missing": day.missing_ms > 0,
        }

    return {
        "ticks": [
            {"label": _trimmed(step * tick), "height": _PER_MILLION * tick // _TICKS} for tick in range(_TICKS + 1)
        ],
        "days": [bar(day) for day in days],
        "missing": any(day.missing_ms for day in days),
        "over": with_capacity and any(day.overage_milli_vcpu_ms for day in days),
        "capacity": with_capacity,
    }


def tick_step(highest: Fraction) -> Fraction:
    """The smallest of 1, 2, 2.5, 5 times a power of ten of which four reach `highest`; 1 when that is zero."""
    if highest <= 0:
        return Fraction(1)
    power = Fraction(1, 100)
    while True:
        for step in _STEPS:
            if step * power * _TICKS >= highest:
                return step * power
        power *= 10


def _between(window: Window, zone: ZoneInfo, say: Labels) -> str:
    return _local(window.start_ms, zone) + say["to"] + _local(window.end_ms, zone)


def _local(at_ms: int, zone: ZoneInfo) -> str:
    moment: datetime = from_ms(at_ms).astimezone(zone)
    return f"{moment:%Y-%m-%d %H:%M}"


def _hours(milli_vcpu_ms: int) -> str:
    return _shown(vcpu_hours(milli_vcpu_ms), 2)


def _time(milliseconds: int) -> str:
    return _shown(Fraction(milliseconds, HOUR_MS), 2)


def _percent(share: Fraction) -> str:
    return f"{_shown(share * 100, 2)} %"


def _shown(value: Fraction, places: int) -> str:
    """Rounded half-up, with a comma between thousands."""
    whole, _, decimals = render_fraction(value, places).partition(".")
    return f"{int(whole):,}" + (f".{decimals}" if decimals else "")


def _trimmed(value: Fraction) -> str:
    return _shown(value, 3).rstrip("0").rstrip(".")
