"""What was asked for, by whom, and what became of it: a log that cannot be altered unseen."""
