"""How well the device is used: FLOPs per step, MFU, and the waterfall from peak to MFU."""
