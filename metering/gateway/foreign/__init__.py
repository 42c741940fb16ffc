"""Bodies of senders that are not ours, by column: no object per sample, and none per series that is known."""
