"""A name or a module in, a frozen classifier with addressable units out."""
