"""From a run to a report: ask the rules, price what they find by replay, rank it and plan."""
