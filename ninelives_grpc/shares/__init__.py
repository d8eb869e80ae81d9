"""Which share of the calls goes through: the laws of throttle, early drop and load shed."""
