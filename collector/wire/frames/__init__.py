"""Our own protocol: a dictionary of series changed by patches, and columns by slot; specified in docs/wire.md."""

from collector.wire.frames.body import BlockView, Body, body_group, join_blocks, open_body
from collector.wire.frames.elder import Assign
from collector.wire.frames.encode import StreamEncoder
from collector.wire.frames.errors import OldState, UnknownState
from collector.wire.frames.glance import check_extras
from collector.wire.frames.guard import GroupGuard
from collector.wire.frames.model import (
    CONTENT_TYPE,
    MAX_BLOCK_BYTES,
    MAX_BODY_BYTES,
    MAX_BODY_PATCH_BYTES,
    MAX_BODY_SAMPLES,
    MAX_ENTRY_BYTES,
    MEDIA_TYPE,
    STALE_NAN_BITS,
    VERSION,
    Block,
    Dated,
    ExemplarOf,
    ExemplarRow,
    FamilyMetadata,
    FrameLimits,
    HistogramRow,
    Rows,
    Starts,
    StartsOf,
    Tick,
)
from collector.wire.frames.read import GroupReader
from collector.wire.frames.sections import Patch
from collector.wire.frames.table import EntryTable
from collector.wire.frames.values import grown

__all__ = [
    "CONTENT_TYPE",
    "MAX_BLOCK_BYTES",
    "MAX_BODY_BYTES",
    "MAX_BODY_PATCH_BYTES",
    "MAX_BODY_SAMPLES",
    "MAX_ENTRY_BYTES",
    "MEDIA_TYPE",
    "STALE_NAN_BITS",
    "VERSION",
    "Assign",
    "Block",
    "BlockView",
    "Body",
    "Dated",
    "EntryTable",
    "ExemplarOf",
    "ExemplarRow",
    "FamilyMetadata",
    "FrameLimits",
    "GroupGuard",
    "GroupReader",
    "HistogramRow",
    "OldState",
    "Patch",
    "Rows",
    "Starts",
    "StartsOf",
    "StreamEncoder",
    "Tick",
    "UnknownState",
    "body_group",
    "check_extras",
    "grown",
    "join_blocks",
    "open_body",
]
