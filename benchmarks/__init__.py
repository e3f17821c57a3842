"""Measurements: speed as ratios against a reference in the same run, and policies against each other."""
