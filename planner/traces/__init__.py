"""Reading recorded interruptions from files; the statistics on them are `simulator.traces`."""
