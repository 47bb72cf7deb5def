"""A stand-in for the NVIDIA driver's library, built with the system's compiler."""
