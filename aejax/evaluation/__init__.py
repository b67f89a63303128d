"""Evaluation: exact PCA, reconstruction errors, densities of codings, scores, diagnostics and arrays for figures."""
