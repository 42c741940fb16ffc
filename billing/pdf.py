"""The PDF of an invoice or a credit note: a rendering of its canonical JSON, with the same bytes each time.

The document's date is the issue date (a draft's: the end of its period). Fonts are those inside the compiler and
Noto Sans CJK of a package; nothing else is read but the templates, the JSON, and the logo that it names by sha256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from billing.facturx import FILE_NAME, render_cii, with_facturx_metadata
from billing.words import in_language
from kernel.errors import InvalidInput, truncate

_TEMPLATES = Path(__file__).with_name("templates")
MAX_LOGO_BYTES = 200_000


class InvoicePdf:
    """Renders invoices, one at a time; the compiler is made once, which halves the time of each.

    `logos` is the vendor's folder of logos; without one, a document that names a logo is refused.
    """

    def __init__(self, logos: Path | None = None) -> None:
        import noto_cjk_sans_otc
        import typst

        fonts = [str(Path(str(noto_cjk_sans_otc.FONT_PATH)).parent)]
        self._compiler: Any = typst.Compiler(root=str(_TEMPLATES), font_paths=fonts, ignore_system_fonts=True)
        self._lock = Lock()
        self._logos = logos

    def render(self, document: bytes, *, facturx: bool = False) -> bytes:
        """The PDF of an invoice's canonical JSON. Blocking, about 20 ms.

        With `facturx`, or if its seller issues them so, a PDF/A-3b with the EN 16931 XML in it; a draft never is.
        Raises InvalidInput for a wrong logo, and for what the XML needs and the document lacks.
        """
        invoice = json.loads(document)
        if facturx or (invoice["seller"].get("facturx") and invoice["number"]):
            return self._hybrid(invoice)
        return self._plain(invoice)

    def _plain(self, invoice: Mapping[str, Any]) -> bytes:
        return self.compile("invoice.typ", self._inputs(invoice), _pinned(invoice))

    def _hybrid(self, invoice: Mapping[str, Any]) -> bytes:
        xml = render_cii(invoice).decode()
        inputs = self._inputs(invoice) | {"facturx": xml, "facturx-name": FILE_NAME}
        return with_facturx_metadata(self.compile("invoice.typ", inputs, _pinned(invoice), standard="a-3b"))

    def _inputs(self, invoice: Mapping[str, Any]) -> dict[str, str]:
        printed = json.dumps(in_language(invoice), ensure_ascii=False)
        return {"document": printed} | self.logo(invoice["seller"])

    def compile(
        self, template: str, inputs: dict[str, str], pinned: datetime, *, standard: str | None = None
    ) -> bytes:
        """The PDF of one of our templates; `pinned` is its date, `standard` such as "a-3b".

        Raises InvalidInput when the logo of the inputs is no picture, or has colours that the standard forbids.
        """
        from typst import TypstError

        try:
            with self._lock:
                rendered: bytes = self._compiler.compile(
                    input=str(_TEMPLATES / template),
                    format="pdf",
                    sys_inputs=inputs,
                    timestamp=int(pinned.timestamp()),
                    pdf_standards=standard or [],
                )
        except TypstError as error:
            if "logo" not in inputs:
                raise
            allowed = "a PNG or JPEG in grey or RGB"
            raise InvalidInput.single("the document", "seller.logo", truncate(str(error)), allowed) from error
        return rendered

    def logo(self, seller: Mapping[str, Any]) -> dict[str, str]:
        """The input of a template that holds the seller's logo; none without one. Raises InvalidInput."""
        named = seller.get("logo")
        if named is None:
            return {}
        return {"logo": json.dumps(list(load_logo(self._logos, named["file"], named["sha256"])))}


def _pinned(invoice: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(invoice["issued_at"] or invoice["period"]["end"])


@cache
def invoice_pdf(logos: Path | None = None) -> InvoicePdf:
    """The renderer of this process, one for each folder of logos."""
    return InvoicePdf(logos)


def load_logo(folder: Path | None, name: str, expected: str) -> bytes:
    """The picture that a document names. Raises InvalidInput when it is not there, too large, or another one."""
    path = (folder or Path("logos")) / Path(name).name
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LOGO_BYTES + 1)
    except OSError as error:
        raise InvalidInput.single(
            str(path), "logo", "no such file", "the picture that the contract names"
        ) from error
    if len(content) > MAX_LOGO_BYTES:
        raise InvalidInput.single(str(path), "logo", "a larger file", f"at most {MAX_LOGO_BYTES} bytes")
    found = sha256(content).hexdigest()
    if found != expected:
        raise InvalidInput.single(str(path), "logo", f"sha256 {found}", f"{expected}, as the contract says")
    return content
