"""`remote_write`: what leaves goes to receivers of your own too, by remote write 2.0 or 1.0, each with a spool."""
