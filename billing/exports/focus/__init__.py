"""FOCUS 1.4 (and Cost and Usage 1.2) from issued documents, as CSV. Source: focus.finops.org, specification 1.4."""

from billing.exports.focus.bundle import Bundle, FocusRequest, Issue, build_bundle
from billing.exports.focus.files import write_bundle

__all__ = ["Bundle", "FocusRequest", "Issue", "build_bundle", "write_bundle"]
