"""Where what the stages have made goes: to the database (`timescale`), to people (`notify`)."""
