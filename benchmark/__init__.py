"""The harness: suites, records, tables, figures, the page, and Weights & Biases.

From Python: `benchmark.evaluation.evaluate(folder, net)` scores a folder of pictures.
"""
