"""What would happen: lifetimes, one run, many runs, statistics.  Knows no cloud, no file, no screen."""
