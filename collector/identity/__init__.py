"""Who this collector is: its key and certificate, enrolment, renewal, TLS to the gateway."""
