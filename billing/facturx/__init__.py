"""Factur-X 1.0, profile EN 16931: the issued document as XML (UN/CEFACT CII D16B), inside its PDF/A-3."""

from billing.facturx.cii import FILE_NAME, render_cii
from billing.facturx.metadata import with_facturx_metadata

__all__ = ["FILE_NAME", "render_cii", "with_facturx_metadata"]
