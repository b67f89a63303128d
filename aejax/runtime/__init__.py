"""Runtime: errors, checks of values, devices, processes and signals."""
