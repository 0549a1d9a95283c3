"""The command `featvis attack`: what it asks for, what it makes, the numbers, and what people look at."""
