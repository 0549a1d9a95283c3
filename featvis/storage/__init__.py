"""Files that are finished or not there: images, directions, locks, and stopping between two writes."""
