"""featvis: feature visualizations as Lightning modules, and the scores that make them comparable."""

__version__ = "0.2.0"
