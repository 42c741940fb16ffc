"""OTLP/HTTP metrics, mapped to series as Prometheus' own OTLP endpoint maps them."""
