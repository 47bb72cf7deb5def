"""All ranks together: `RankSummary` values become one `JobReport`."""
