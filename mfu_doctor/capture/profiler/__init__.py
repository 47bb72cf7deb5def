"""torch.profiler under control: when it runs, and what else profiles this process."""
