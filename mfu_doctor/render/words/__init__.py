"""Wording shared by every screen."""
