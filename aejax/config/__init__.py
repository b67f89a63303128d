"""Configuration: `Sweep`, hyper-parameter points, overrides, the registry of names, run identity."""
