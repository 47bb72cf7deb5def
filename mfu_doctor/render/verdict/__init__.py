"""The verdict for people and for CI."""
