"""A small shop whose backends fail and recover, to watch policies at work and tune them."""
