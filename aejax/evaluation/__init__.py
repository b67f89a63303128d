"""Evaluation: exact PCA, reconstruction errors, scores, diagnostics."""
