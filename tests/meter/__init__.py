"""Tests of `mfu_doctor.meter`."""
