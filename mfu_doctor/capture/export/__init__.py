"""From a finished recording to one trace file."""
