"""Names in a trace: what operators, kernels and calls are called, and what that means."""
