"""What is made outside of suites: probes of layers, inversions, concepts, attacks."""
