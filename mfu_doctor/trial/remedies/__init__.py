"""Fixes that can be applied to an unchanged program from outside, each in a file of its own; `mfu-doctor try` measures them."""
