"""Exact FLOPs of live operators."""
