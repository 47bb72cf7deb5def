"""What users hold: `Report`, which can load, save, draw and judge itself, and `diagnose()`, which makes one."""
