"""The live half below the session: the loop, torch.profiler, NVML and facts. The only place that imports torch."""
