"""All ranks of a run: each is reduced to a `RankSummary` where its trace is, and the summaries are joined to a `JobReport`.

summary = summarize(run, rank=7, rules=RULES)  # job/rank/summarize.py, in a worker; `rank`: what the name of its file says
report = join(summaries, source="runs/7/", left_out=(...))  # job/join/join.py; sorted by rank, one of each, all of one run
"""
