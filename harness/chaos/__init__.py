"""Interrupt a real run on this machine by a schedule, and prove afterwards that nothing was lost."""
