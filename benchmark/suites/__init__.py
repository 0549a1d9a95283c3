"""A suite's YAML and the flags over it in, checked cells out; nothing is written."""
