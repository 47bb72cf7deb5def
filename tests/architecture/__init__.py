"""Checks of the code's shape: functions over the sources of any package, each returning one line per offender."""
