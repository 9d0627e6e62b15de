"""Logger files: recognised by content, read as columns of numbers in bounded memory. Knows formats; knows no spool."""
