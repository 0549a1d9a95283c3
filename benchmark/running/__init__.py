"""Cells in, images out."""
