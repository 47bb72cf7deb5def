"""The interface for users: `Report`, which can load, save, draw and check itself, and `diagnose()`, which makes one."""
