"""What makes a CPU fast, behind one door; it knows nothing of the rest of featvis."""
