"""Every statement of the spool's store, each with what it is for. SQL only."""

INSERT_GROUP = """insert into groups (id, stream, accepted_us, rows, readings, has_status, file, patient, crc32, body)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# A group on its way into two.
GROUP = "select stream, accepted_us, rows, has_status, file, patient, crc32, body from groups where id = ?"
SHRINK_GROUP = "update groups set rows = ?, readings = ?, crc32 = ?, body = ? where id = ?"
DELETE_GROUP = "delete from groups where id = ?"
# Groups without a frame, oldest first: all of them, those that go first, those that wait.
UNFRAMED = """select id, stream, rows, readings, length(body), accepted_us from groups g
    where id > ? and not exists (select 1 from framed f where f.group_id = g.id) order by id limit ?"""
LIVE = UNFRAMED.replace("id > ?", "id > ? and not patient")
BACKLOG = UNFRAMED.replace("id > ?", "id > ? and (id < ? or patient)")
# Give a group its frame.
INSERT_FRAMED = "insert into framed (group_id, spool, device, sequence) values (?, ?, ?, ?)"
DELETE_FRAMED = "delete from framed where group_id = ?"
# The ids of one frame's groups, in order.
MEMBERS = """select group_id from framed where spool = (select number from spools where spool_id = ?)
    and device = (select number from devices where device_id = ?) and sequence = ? order by group_id"""
# What the counters must know of one frame's groups.
FRAME_GROUPS = """select g.id, g.rows, g.readings, length(g.body), g.file
    from framed f join groups g on g.id = f.group_id
    where f.spool = (select number from spools where spool_id = ?)
    and f.device = (select number from devices where device_id = ?) and f.sequence = ?"""
# The content of one frame, in order.
CONTENT = """select g.body, g.rows, g.has_status, g.crc32, s.channels from framed f
    join groups g on g.id = f.group_id join streams s on s.number = g.stream
    where f.spool = (select number from spools where spool_id = ?)
    and f.device = (select number from devices where device_id = ?) and f.sequence = ? order by g.id"""
# Cut and not acknowledged, in the order of their oldest groups.
FRAMED = """select d.device_id, s.spool_id, f.sequence, count(*), sum(g.rows), sum(g.readings), sum(length(g.body))
    from framed f join groups g on g.id = f.group_id
    join devices d on d.number = f.device join spools s on s.number = f.spool
    group by f.spool, f.device, f.sequence order by min(g.id)"""
# What waits, group by group: to sum it up by device, SQLite would hold every body in memory.
WAITING = """select stream, length(body), accepted_us, readings from groups"""
TOTALS = "select coalesce(max(id), 0), count(*) from groups"
FRAMED_TOTALS = "select count(*), coalesce(sum(length(g.body)), 0) from framed f join groups g on g.id = f.group_id"
# When the first group of a device that still waits was accepted. The cross join keeps SQLite from sorting all groups.
OLDEST = """select g.accepted_us from groups g cross join streams s
    where s.number = g.stream and s.device = ? order by g.id limit 1"""

DEVICES = """select number, device_id, next_sequence, accepted, sent, dropped, refused, acknowledged_us from devices"""
INSERT_DEVICE = "insert into devices (device_id) values (?) returning number"
SAVE_DEVICE = """update devices set next_sequence = ?, accepted = ?, sent = ?, dropped = ?, refused = ?,
    acknowledged_us = ? where number = ?"""
STREAMS = "select number, device, channels from streams"
INSERT_STREAM = "insert into streams (device, channels) values (?, ?) returning number"

MARK = """select f.sha256, d.device_id, f.name, f.format, f.options, f.rows_accepted, f.readings_accepted,
    f.rows_acknowledged, f.readings_acknowledged, f.complete, f.last_sequence
    from files f join devices d on d.number = f.device where f.sha256 = ? and d.device_id = ?"""
SAVE_MARK = """insert into files (sha256, device, name, format, options, rows_accepted, readings_accepted, complete)
    values (?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (sha256, device) do update set name = excluded.name, format = excluded.format,
    options = excluded.options, rows_accepted = excluded.rows_accepted,
    readings_accepted = excluded.readings_accepted, complete = excluded.complete returning number"""
# A file's last frame is the latest that holds a group of it.
MARK_LAST = """update files set last_sequence = max(coalesce(last_sequence, -1), ?) where number in
    (select file from groups where id between ? and ? and stream = ? and file is not null)"""
MARK_ACKNOWLEDGED = """update files set rows_acknowledged = rows_acknowledged + ?,
    readings_acknowledged = readings_acknowledged + ? where number = ?"""
# Groups of a forgotten file go their way without it.
UNMARK_GROUPS = """update groups set file = null where file =
    (select f.number from files f join devices d on d.number = f.device where f.sha256 = ? and d.device_id = ?)"""
FORGET = "delete from files where sha256 = ? and device = (select number from devices where device_id = ?)"

# How far a source has come, in its own words.
SAVE_PLACE = (
    "insert into places (source, place) values (?, ?) on conflict (source) do update set place = excluded.place"
)
PLACE = "select place from places where source = ?"
PLACES = "select source, place from places where substr(source, 1, ?) = ? order by source"

# What stays after its acknowledgement: a frame's bodies, one group's copy, the oldest, and a frame's end.
FRAME_BODIES = """select g.id, g.rows, g.body from framed f join groups g on g.id = f.group_id
    where f.spool = (select number from spools where spool_id = ?)
    and f.device = (select number from devices where device_id = ?) and f.sequence = ? order by g.id"""
KEEP = """insert into kept (spool, device, sequence, stream, acknowledged_us, first_us, last_us, rows, readings,
    has_status, crc32, body) select f.spool, f.device, f.sequence, g.stream, ?, ?, ?, g.rows, g.readings,
    g.has_status, g.crc32, g.body from groups g join framed f on f.group_id = g.id where g.id = ?"""
OLDEST_KEPT = "select spool, device, sequence, acknowledged_us from kept order by id limit 1"
FORGET_KEPT = "delete from kept where spool = ? and device = ? and sequence = ? returning length(body)"
KEPT_FRAME = """select stream, rows, readings, has_status, crc32, body from kept
    where spool = ? and device = ? and sequence = ? order by id"""
# Sending again: the oldest request, the frames it means, how many those are, and its end.
ASK = "insert into resends (from_us, to_us, device, id_max) values (?, ?, ?, ?)"
RESEND = "select number, from_us, to_us, device, id_max from resends order by number limit 1"
ASKED = """select spool, device, sequence from kept
    where last_us >= ?1 and first_us < ?2 and (?3 is null or device = ?3) and id <= ?4
    group by spool, device, sequence order by min(id) limit ?5"""
ASKED_TOTALS = f"""select count(distinct sequence || ' ' || device || ' ' || spool), coalesce(sum(readings), 0)
    from kept where (spool, device, sequence) in (select * from ({ASKED}))""".replace("limit ?5", "")  # noqa: S608 - of constants
ANSWERED = "delete from resends where number = ?"
KEPT = "select device, readings, length(body) from kept"

# For those who look on.
SPOOL_ID = "select spool_id from spools order by number limit 1"
