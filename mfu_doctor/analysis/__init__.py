"""Pure analysis: lazy views of one trace, and the replay that predicts what a change of it saves."""
