"""The queue before a sync server's workers: who waits, for how long, and who is served next."""
