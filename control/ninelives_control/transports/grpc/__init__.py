"""Commands as RPCs."""
