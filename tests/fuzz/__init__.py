"""Inputs that nobody wrote on purpose: what must hold of every one, and what makes them up.

`test_fuzz.py` runs a bounded part with a fixed seed; `python -m tests.fuzz --minutes N` runs as long as asked.
"""
