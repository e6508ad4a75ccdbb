"""The deterministic heart: facts in, orders out. Standard library only; no I/O, no clock, no chance."""
