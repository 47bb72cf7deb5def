"""What only a live run knows: its loader, optimizer, settings, host and processor."""
