"""The clinic's patients for a GPU, in order of value: loops with one planted fault, each beside its fix, and healthy controls."""

from __future__ import annotations

from on_gpu_parts.patients import controls, formats, host, waste

_BY_NAME = {patient.name: patient for module in (formats, host, waste, controls) for patient in module.PATIENTS}

# What a GPU has and a CPU has not comes first; the time may end before the last ones.
ORDER = ("fp32-without-tf32", "item-each-step", "small-kernels", "pageable-copies", "attention-written-out")
ORDER += ("graphed-step", "single-tensor-optimizer", "slow-loader", "odd-vocabulary", "channels-last-cnn")
ORDER += ("nchw-convolutions", "needless-checkpointing", "large-matmuls", "empty-cache-each-step", "one-hot-loss")
ORDER += ("batch-of-one", "zeroed-gradients", "fp64", "compiled-gpt")

PATIENTS = {name: _BY_NAME[name] for name in ORDER}
