"""Usage as billing and console see it."""

from metering.usage.closer import HourCloser, SampleSource
from metering.usage.lake_source import LakeSource
from metering.usage.model import MeterPart, MeterRow, MeterUsage, UsageMonth, UsageReader
from metering.usage.reconciler import Reconciler
from metering.usage.rows import UsageRow, digest_of
from metering.usage.sample_files import SampleFile, SampleFiles
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore, open_keeping

__all__ = [
    "HourCloser",
    "LakeSource",
    "MeterPart",
    "MeterRow",
    "MeterUsage",
    "Reconciler",
    "SampleFile",
    "SampleFiles",
    "SampleSource",
    "UsageMonth",
    "UsageReader",
    "UsageRow",
    "UsageSettings",
    "UsageStore",
    "digest_of",
    "open_keeping",
]
