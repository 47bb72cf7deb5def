"""A copy of a trace with the findings in it, for Perfetto."""
