"""People of the dashboard: accounts, passwords, sessions, one-time links. Knows the tables; knows no page."""
