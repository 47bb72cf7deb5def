"""What the ranks of a run tell together: which collectives are the same, who came late and why, and the replay of all ranks."""
