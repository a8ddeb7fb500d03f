"""The commands of `gamedyn`, one module each: its options, and `run`."""
