"""The gateway: remote write over mutual TLS, into the log. README.md says what it promises."""
