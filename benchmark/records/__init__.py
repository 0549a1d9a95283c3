"""One small reviewable JSON file a cell, and the list of all metrics; no torch."""
