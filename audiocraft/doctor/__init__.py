"""Preflight report: what a run needs, and what would stop it."""
