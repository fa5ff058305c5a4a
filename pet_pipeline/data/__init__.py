"""Volumes, files, geometry of grids, training examples."""
