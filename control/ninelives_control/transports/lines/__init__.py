"""Commands as lines of JSON."""
