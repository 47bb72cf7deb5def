"""All ranks of a run: each is reduced to a `RankSummary` where its trace is, and the summaries are joined to a `JobReport`."""
