"""FLOPs of operators from their definition."""
