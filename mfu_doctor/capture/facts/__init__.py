"""Metadata that only the running process knows: its loader, optimizer, settings, host and processor."""
