"""Pure analysis: lazy views of one trace, and the replay that prices changes to it."""
