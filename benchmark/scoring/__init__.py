"""Images in, numbers out: what is measured, with what, and the one maker of records."""
