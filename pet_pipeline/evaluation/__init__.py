"""Scores of images against references."""
