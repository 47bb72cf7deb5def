"""The version of mfu-doctor, in a module that imports nothing: whatever writes it down needs no other part of the package."""

__version__ = "0.1.0"
