"""Simulated patients and cohorts."""
