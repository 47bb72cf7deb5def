"""The device beside the run: NVML and GPM samples."""
