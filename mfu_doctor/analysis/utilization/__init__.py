"""How well the device is used: FLOPs of a step, MFU, and the waterfall from peak to MFU."""
