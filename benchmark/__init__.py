"""The harness: suites, records, tables, figures, the page, and Weights & Biases."""
