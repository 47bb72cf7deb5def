"""Two runs compared: what changed, whether it is more than noise, and whether the prediction was right."""
