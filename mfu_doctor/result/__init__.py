"""The result types and how they are stored."""
