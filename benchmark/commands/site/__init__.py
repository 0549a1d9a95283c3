"""The commands `featvis site`, `featvis submit` and `featvis merge`."""
