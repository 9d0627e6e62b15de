-- Values of an imported file that loggers write where they have none, and that were taken as numbers.

ALTER TABLE imports ADD COLUMN looks_missing text[] NOT NULL DEFAULT '{}';
