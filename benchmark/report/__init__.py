"""Records in, what people look at out: tables, figures, the page; no torch."""
