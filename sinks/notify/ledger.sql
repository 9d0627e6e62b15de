-- What the notifier knows, in one file: how far it has read, how alarms stand, what waits, what left.
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS positions (part INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL) STRICT;
-- The last event of each alarm that is not over.
CREATE TABLE IF NOT EXISTS standing (alarm_id TEXT PRIMARY KEY, event TEXT NOT NULL) STRICT;
-- Events taken, so that one that is read again brings about nothing.
CREATE TABLE IF NOT EXISTS taken (event_id TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS waiting (
    event_id TEXT NOT NULL, route TEXT NOT NULL, way TEXT NOT NULL, grp TEXT NOT NULL, since REAL NOT NULL,
    event TEXT NOT NULL, PRIMARY KEY (event_id, way)
) STRICT;
-- state: ready, sending (a try is under way, or was when we were killed), sent, doubtful (killed twice while sending).
CREATE TABLE IF NOT EXISTS notices (
    notice_id TEXT PRIMARY KEY, way TEXT NOT NULL, route TEXT NOT NULL, grp TEXT NOT NULL, events TEXT NOT NULL,
    again INTEGER NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL, interrupted INTEGER NOT NULL,
    made REAL NOT NULL, next_try REAL NOT NULL, failing_since REAL, said TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS notices_state ON notices (state, way, made);
-- Alarms told as raised, by way; and when a group was told last.
CREATE TABLE IF NOT EXISTS told (way TEXT NOT NULL, alarm_id TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (way, alarm_id)) STRICT;
CREATE TABLE IF NOT EXISTS last_told (
    route TEXT NOT NULL, way TEXT NOT NULL, grp TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (route, way, grp)
) STRICT;
