"""What a user names and what holds for it: traces, directories, saved reports and settings."""
