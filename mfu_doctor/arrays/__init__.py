"""Arithmetic on arrays and sequences that knows nothing of traces."""
