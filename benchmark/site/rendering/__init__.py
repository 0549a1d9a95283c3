"""A site's data in, its pages out. No torch."""
