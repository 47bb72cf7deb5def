"""What a run is called by the bucket that its step is lost to: named by the diagnosis, looked up again by every screen."""

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
