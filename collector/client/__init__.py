"""Asking servers on the customer's side over HTTP: authentication, TLS and proxy as Prometheus' `http_config`."""
