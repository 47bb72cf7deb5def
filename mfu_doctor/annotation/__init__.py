"""A trace with our answers in it, for Perfetto."""
