"""From a study's folder to people and back: the page, and a small server for a lab."""
