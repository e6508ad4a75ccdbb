"""space.yaml -> SweepConfig, and a configuration -> the command line of its trial."""
