"""What can be said about a call: one policy a file."""
