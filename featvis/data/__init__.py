"""Real images, and what is computed of them once: spectra, feature banks, nearest neighbours."""
