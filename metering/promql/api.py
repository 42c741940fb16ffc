"""What other components use of PromQL: parse at load time, evaluate on the head."""

from metering.promql.evaluate import SeriesSource, evaluate
from metering.promql.head import CollectorProgress, Head, Publisher
from metering.promql.limits import HeadLimits, Reason
from metering.promql.organization import OrganizationHead
from metering.promql.parse import SUPPORTED, parse_expression, render_number
from metering.promql.syntax import LOOKBACK_MS, Expression, RangeSelector, ValueKind, kind_of, selectors_of
from metering.promql.vector import EvaluationError, Vector, render_labels

__all__ = [
    "LOOKBACK_MS",
    "SUPPORTED",
    "CollectorProgress",
    "EvaluationError",
    "Expression",
    "Head",
    "HeadLimits",
    "OrganizationHead",
    "Publisher",
    "RangeSelector",
    "Reason",
    "SeriesSource",
    "ValueKind",
    "Vector",
    "evaluate",
    "kind_of",
    "parse_expression",
    "render_labels",
    "render_number",
    "selectors_of",
]
