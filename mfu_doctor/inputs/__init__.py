"""The inputs of a user and their settings: traces, directories, saved reports, options and pyproject.toml."""
