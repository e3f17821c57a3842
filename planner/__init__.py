"""What to do: catalogue, prices, hazards, interval search, ranking, emitted configs, command line."""
