"""From the spool to the gateway, one ordered stream a lane."""
