"""`telltale import`: logger files in, each with a status that everybody sees."""
