"""From a target's page to rows in the spool."""
