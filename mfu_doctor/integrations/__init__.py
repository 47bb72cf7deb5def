"""Meter and recorder in the libraries that run a training loop for the user, and their numbers in experiment trackers.

Each module imports its library when it is imported itself: import the one that you use.
"""
