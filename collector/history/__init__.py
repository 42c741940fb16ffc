"""A month from before: a CSV of samples, checked as a whole, sent in the history lane."""
