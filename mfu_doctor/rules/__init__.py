"""One file per rule, in the folder of its family.

`contract` says what a rule is, `needs` what it may need of a run, `EVIDENCE.md` what it may look at, and `catalogue` lists all.
"""
