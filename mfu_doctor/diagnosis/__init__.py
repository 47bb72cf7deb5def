"""From a run to a report: call the rules, predict savings by replay, rank the findings and make the plan."""
