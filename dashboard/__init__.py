"""Pages, API and commands over the database and the live topics. Knows tables and topics; knows no stage."""
