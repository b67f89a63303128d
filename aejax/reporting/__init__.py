"""Reporting: stored rows to tables, figures and verdicts."""
