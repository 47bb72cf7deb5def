"""Tests of `mfu_doctor.integrations` against the real libraries; each skips where its library is absent."""
