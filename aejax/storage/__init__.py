"""Storage: atomic files, locks, run folders, checkpoints and provenance."""
