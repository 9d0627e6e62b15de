-- What was done at a shell is kept in a journal first and brought here later, once: by its number there.

ALTER TABLE audit_log ADD COLUMN entry uuid UNIQUE;
