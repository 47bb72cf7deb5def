"""One file per rule; `catalogue` lists them, `contract` says what a rule is."""
