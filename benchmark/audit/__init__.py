"""Whether a run, or a record, is what it says."""
