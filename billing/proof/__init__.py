"""What an invoice rests on, for whoever wants to check it: explained, bundled, verified."""
