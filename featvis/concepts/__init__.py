"""Concepts of a class: factorised activations, their importance for the logit."""
