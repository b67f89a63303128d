"""Runtime: errors, value checks, devices, processes and signals."""
