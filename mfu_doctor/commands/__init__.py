"""The work behind verbs of the command line, as plain functions that return text and an exit code; `cli.py` prints."""
