"""What a report shows beside its findings: the drawn step, tables and counts."""
