"""`python -m console.settings_page` writes docs/settings.md from the models: no setting is documented twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel
from pydantic_core import to_json

from collector.settings import CollectorSettings
from console.sections import OTHERS_PREFIX, OTHERS_VARIABLES, Sections
from kernel.deployment_settings import DeploymentSettings
from kernel.settings import documented_fields

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
_HEAD = f"""# Settings

Written by `make docs` from the models; edit the descriptions there. `...[].x` is a field of each item of a list.

**Vendor side.** `byoc -c vendor.yaml <command>`; `byoc --dir D <command>` has no file, D is `deployment.folder`.
Every command reads the same file. `byoc -c vendor.yaml up --check-config` checks it with everything that it names
(rule files, secrets, certificates, access keys, URLs), asks no server and makes no file; exit status 2 if anything
is wrong. Relative paths are taken from the file's folder.

**Environment.** `BYOC_<SECTION>__<FIELD>` wins over the file, and counts without one: `BYOC_GATEWAY__PORT=8443` is
`gateway.port`, `BYOC_DEPLOYMENT__LOG__KAFKA__SASL_PASSWORD` is `deployment.log.kafka.sasl_password`. Lists and
mappings are JSON: `BYOC_GATEWAY__HOST_NAMES='["ingest.example"]'` replaces the file's list; a mapping is laid over
the file's. An unknown variable that begins with `BYOC_` is refused, but for `{OTHERS_PREFIX}*` (the collector's),
{", ".join(f"`{name}`" for name in sorted(OTHERS_VARIABLES))} (tests), names that a
`secret_env` refers to, and what Kubernetes sets for services (`BYOC_GATEWAY_SERVICE_HOST`,
`BYOC_GATEWAY_PORT=tcp://...`).

**Collector.** `byoc collector run -c collector.yaml --check-config` checks its file; the environment is
`{OTHERS_PREFIX}<SECTION>__<FIELD>`: `{OTHERS_PREFIX}GATEWAY__URL` is `gateway.url`. The other collector commands
read the same file.

Secrets are never printed, whatever is wrong with them.
"""


def render_page() -> str:
    """The page, the same text each time."""
    sections: dict[str, type[BaseModel]] = {"deployment": DeploymentSettings, **get_type_hints(Sections)}
    parts = [_HEAD, *(_section(f"Vendor: `{name}`", model) for name, model in sections.items())]
    parts.append(_section("`collector.yaml`", CollectorSettings))
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> str:
    return "\n".join(
        [f"## {title}", "", "| setting | default | what it does |", "|---|---|---|", *_rows(model), ""]
    )


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, description, default in documented_fields(model, with_items=True):
        text = " ".join((description or "").replace("|", "\\|").split())
        yield f"| `{name}` | {_default(default)} | {text} |"


def _default(value: Any) -> str:
    if value is ...:
        return "required"
    return "none" if value is None else f"`{to_json(value).decode()}`".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
