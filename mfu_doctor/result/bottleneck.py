"""The name of a run by its largest bucket ("host-bound"): set by the diagnosis, looked up by every renderer."""

from __future__ import annotations

COMPUTE_BOUND = "compute-bound"
BOUND_BY = {
    "data_loading": "input-bound",
    "idle": "host-bound",
    "communication": "communication-bound",
    "memory_copy": "copy-bound",
    "compute": COMPUTE_BOUND,
}
BUCKET_OF = {name: bucket for bucket, name in BOUND_BY.items()}
