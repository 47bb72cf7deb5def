"""What runs inside the training process: loop hooks, torch.profiler, NVML and metadata. Only this folder imports torch."""
