"""What the parts run on and what they share at their edges: broker, database, processes, security. Knows no service."""
