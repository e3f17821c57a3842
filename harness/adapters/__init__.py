"""Trainers that own the training loop, driven by a `harness.Run`: Lightning and Hugging Face.

Each module imports its library, and nothing else does.
"""
