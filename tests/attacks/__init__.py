"""A table of attacks on real servers: all refused, each in the audit, and nothing changed."""
