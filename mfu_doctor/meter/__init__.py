"""How well each step of a running training uses its device: the log line, for some microseconds and without waiting."""
