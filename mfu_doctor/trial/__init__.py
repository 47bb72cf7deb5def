"""`mfu-doctor try`: fixes tried on the user's own program, each measured in turns with the unchanged one, in fresh processes."""
