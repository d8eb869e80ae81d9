"""Commands as resources of HTTP."""
