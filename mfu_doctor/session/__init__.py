"""A live run from start to report: `profile()`, its recorder, and `mfu-doctor run`."""
