"""From answers to what they show: exclusions, proportions, a mixed model, agreement, power, a page."""
