"""Budgets, levels and a baseline on reports: the verdict for CI."""
