"""One module per command: it reads flags, calls pure functions, and prints what they return."""
