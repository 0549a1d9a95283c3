"""One file a command: its flags, its help, and what it calls."""
