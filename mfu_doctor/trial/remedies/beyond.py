"""Rules whose fix cannot be applied from outside, and why: the program, the machine or the job has to change."""

from __future__ import annotations

_CODE = "the lines of the program have to change"
_SHAPES = "the shapes in the program have to change"
_MACHINE = "the machine has to change"
_JOB = "the layout of the job has to change"
_SCHEDULE = "only the program knows which of this work it needs, and when"

BEYOND: dict[str, str] = {
    "late-gathers": "it depends on how the program wraps its layers, and on which version of FSDP or DeepSpeed it uses",
    "late-optimizer": _CODE,
    "exposed-communication": "it names another option for each framework",
    "sync-every-microbatch": "only the program knows which micro-batch is the last one of a step",
    "data-parallel": "DistributedDataParallel needs a process for each GPU",
    "slow-link": _MACHINE,
    "held-queue": _CODE,
    "low-clocks": _MACHINE,
    "power-cap": _MACHINE,
    "shared-device": _MACHINE,
    "slow-pcie-link": _MACHINE,
    "thermal-throttle": _MACHINE,
    "device-sync": "a synchronisation that is left out may be one that the results need",
    "diagnostics-in-step": _SCHEDULE,
    "growing-step": _CODE,
    "host-computation": _CODE,
    "long-steps": _SCHEDULE,
    "outside-steps": _SCHEDULE,
    "pageable-read": _CODE,
    "tensor-loop": _CODE,
    "blocking-copy": "the copy has to start one batch ahead, in the loop of the program",
    "host-made-tensor": _CODE,
    "padded-batch": "only the program knows which of a batch is padding",
    "restarted-loader": _CODE,
    "wide-batch": "only the program knows where its images are normalised",
    "broadcast-product": _CODE,
    "constant-work": _CODE,
    "contiguous-copies": _CODE,
    "conv-bias-before-norm": "the model has to be built without these parameters",
    "diagonal-product": _CODE,
    "discarded-pass": _CODE,
    "expanded-table": _CODE,
    "idle-tensor-cores": "it is a doubt about the count, not a fault",
    "ignored-rows": _CODE,
    "large-vocab-loss": _CODE,
    "misaligned-matmul": _SHAPES,
    "parameter-sweeps": _CODE,
    "repeated-backward": _CODE,
    "repeated-cast": "the region of autocast has to be around all micro-batches, in the loop of the program",
    "repeated-forward": _CODE,
    "sparse-mask": _CODE,
    "sparse-operand": _CODE,
    "offloaded-state": _JOB,
    "pipeline-bubble": _JOB,
    "rank-settings-differ": _MACHINE,
    "slow-group-link": _MACHINE,
    "slow-node": _MACHINE,
    "stage-imbalance": _JOB,
    "straggler-rank": "the fix is that of what the late rank does",
    "unequal-experts": "the model has to balance its experts",
    "uneven-work": "the sampler of the program has to change",
}
