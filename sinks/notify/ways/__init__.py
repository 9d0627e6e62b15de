"""How a notice leaves the house. Each way carries one notice or raises `Undelivered`; none decides anything."""
