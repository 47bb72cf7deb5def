"""The training loop from inside: where its steps end, what loads batches, where Python spends time."""
