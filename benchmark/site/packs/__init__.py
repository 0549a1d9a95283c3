"""What others submit: a run in, a pack out; packs in, verified rows out."""
