"""One rank, where its trace is: a `Run` becomes a `RankSummary`."""
