"""Training: one fit, populations of fits, layouts, schedules, optimisers, greedy pretraining, classifiers."""
