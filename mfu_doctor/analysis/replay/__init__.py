"""Replay: the recorded timeline as a model that is simulated again with a problem removed. It predicts every saving."""
