"""Changes of parameters: together, for a time, once, and kept."""
