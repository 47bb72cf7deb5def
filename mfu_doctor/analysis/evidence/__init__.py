"""What rules look at: facts of the steady steps that more than one line of a rule needs."""
