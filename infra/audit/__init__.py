"""Who did what at the shell: a journal in the stack's folder, brought to the database's audit log."""
