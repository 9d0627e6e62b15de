"""PostgreSQL on this machine: which programs, under whose account, how it is set up. Knows no table."""
