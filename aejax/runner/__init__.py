"""Runner: an experiment's sweeps as jobs: plan, train, resume, score."""
