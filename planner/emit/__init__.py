"""What a plan becomes: harness.yaml and torchrun.env, every tuned value with its reason, written all or nothing."""
