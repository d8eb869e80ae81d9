"""The laws by which a `ConcurrencyLimit` moves, one a file; they know nothing of gRPC."""
