"""The command `featvis concepts`: concepts of classes, their pictures, pages and records."""
