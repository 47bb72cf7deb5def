"""Two runs side by side: what changed, whether it is real, and whether the prediction held."""
