"""`/targets`: what is scraped and how it went, for people and for programs. Everything shown is escaped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape

from collector.targets_view import JobView, TargetRow
from kernel.clock import Clock
from kernel.health import Asked, Page, Pages

MAX_ROWS = 2000  # of a page; the JSON has all
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #1b1f24; background: #fff; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #d8dee4; }
th { background: #f6f8fa; font-weight: 600; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.up { color: #116329; } .down { color: #a40e26; font-weight: 600; } .unknown { color: #6e4c00; }
.label { display: inline-block; background: #eef1f4; border-radius: 3px; padding: 0 .3rem; margin: 0 .2rem .2rem;
         overflow-wrap: anywhere; }
.note { border-left: 4px solid #a40e26; padding: .3rem .8rem; background: #fff5f5; overflow-wrap: anywhere; }
summary { cursor: pointer; color: #57606a; } td.url, td.error { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117; } th { background: #161b22; } th, td { border-color: #30363d; }
  .up { color: #56d364; } .down { color: #ff7b72; } .unknown { color: #e3b341; }
  .label { background: #21262d; } .note { background: #2d1214; } summary { color: #9198a1; }
}
"""


def target_pages(jobs: Callable[[], list[JobView]], notes: Callable[[], Mapping[str, str]], clock: Clock) -> Pages:
    """`/targets` (a page; JSON by Accept or `?format=json`) and `/api/v1/targets` as Prometheus has it.

    `notes`: what is amiss with the collector as a whole, by name.
    """

    def page(asked: Asked) -> Page:
        if asked.query.get("format") == "json" or "application/json" in asked.accept:
            return document(asked)
        html = render_page(jobs(), notes(), clock.now_ms())
        return Page(html.encode("utf-8", "replace"), "text/html; charset=utf-8", headers=_HEADERS)

    def document(_asked: Asked) -> Page:
        content = json.dumps(render_document(jobs(), notes()))
        return Page(content.encode(), "application/json; charset=utf-8", headers=_HEADERS)

    return {"/targets": page, "/api/v1/targets": document}


def render_document(jobs: Iterable[JobView], notes: Mapping[str, str]) -> dict[str, object]:
    """The JSON, in the shape of Prometheus' /api/v1/targets."""
    listed = list(jobs)
    return {
        "status": "success",
        "data": {
            "activeTargets": [row.as_prometheus() for job in listed for row in job.rows],
            "droppedTargets": [
                {"discoveredLabels": dict(one.labels), "scrapePool": job.name, "reason": one.reason}
                for job in listed
                for one in job.dropped
            ],
            "droppedTargetCounts": {job.name: job.dropped_count for job in listed},
            "problems": {job.name: list(job.problems) for job in listed if job.problems},
        },
        "notes": dict(notes),
    }


def render_page(jobs: Iterable[JobView], notes: Mapping[str, str], now_ms: int) -> str:
    """The page."""
    return "".join(_page(list(jobs), notes, now_ms))


def _page(jobs: list[JobView], notes: Mapping[str, str], now_ms: int) -> Iterator[str]:
    rows = [row for job in jobs for row in job.rows]
    up = sum(row.health == "up" for row in rows)
    yield "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>byoc collector: targets</title>"
    yield "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>Targets: {up} of {len(rows)} up</h1>"
    for name, note in notes.items():
        yield f"<p class='note'><b>{escape(name)}</b>: {escape(note)}</p>"
    room = MAX_ROWS
    for job in jobs:
        yield from _job(job, job.rows[:room], now_ms)
        room = max(0, room - len(job.rows))
    yield "<p><a href='/targets?format=json'>JSON</a></p></body></html>"


def _job(job: JobView, rows: tuple[TargetRow, ...], now_ms: int) -> Iterator[str]:
    up = sum(row.health == "up" for row in job.rows)
    yield f"<h2>{escape(job.name)} ({up} of {len(job.rows)} up)</h2>"
    for problem in job.problems:
        yield f"<p class='note'>discovery: {escape(problem)}</p>"
    yield "<table><thead><tr><th scope='col'>Target</th><th scope='col'>Health</th><th scope='col'>Labels</th>"
    yield "<th scope='col'>Last scrape</th><th scope='col'>Took</th><th scope='col'>Samples</th>"
    yield "<th scope='col'>Error</th></tr></thead><tbody>"
    for row in rows:
        yield _row(row, now_ms)
    yield "</tbody></table>"
    if len(rows) < len(job.rows):
        yield f"<p>{len(job.rows) - len(rows)} more are in the JSON only.</p>"
    if job.dropped_count:
        yield f"<details><summary>{job.dropped_count} left out</summary><table><tbody>"
        for one in job.dropped[:MAX_ROWS]:
            yield f"<tr><td>{_labels(one.labels)}</td><td class='error'>{escape(one.reason)}</td></tr>"
        yield "</tbody></table></details>"


def _row(row: TargetRow, now_ms: int) -> str:
    ago = "never" if row.last_scrape_ms is None else f"{max(0, now_ms - row.last_scrape_ms) / 1000:.1f} s ago"
    found = f"<details><summary>discovered</summary>{_labels(row.discovered)}</details>" if row.discovered else ""
    return (
        f"<tr><td class='url'>{escape(row.url)}</td><td class='{escape(row.health)}'>{escape(row.health)}</td>"
        f"<td>{_labels(row.labels)}{found}</td><td class='number'>{ago}</td>"
        f"<td class='number'>{row.last_seconds * 1000:.1f} ms</td><td class='number'>{row.samples}</td>"
        f"<td class='error'>{escape(row.error)}</td></tr>"
    )


def _labels(labels: Mapping[str, str]) -> str:
    return "".join(
        f"<span class='label'>{escape(name)}=\"{escape(value)}\"</span>" for name, value in labels.items()
    )
