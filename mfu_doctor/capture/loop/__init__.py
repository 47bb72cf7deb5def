"""The training loop from inside: where its steps end, what fetches batches, where Python spends time."""
