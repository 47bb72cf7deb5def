"""What rules look at: facts of the judged steps that more than one line of a rule needs."""
