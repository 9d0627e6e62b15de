-- The spool. A group is what one accept brought of one set of channels; it is never changed, only deleted.
-- A frame is one or more groups of one stream, cut when the sender first wants them: `framed` gives them an identity
-- and is on disk before anything is sent, so that a frame sent again has the same identity and the same content.

create table spools (
    number integer primary key,
    spool_id text not null unique,
    created_us integer not null
);

-- Counters are readings since the spool was made.
create table devices (
    number integer primary key,
    device_id text not null unique,
    next_sequence integer not null default 0,
    accepted integer not null default 0,
    sent integer not null default 0,
    dropped integer not null default 0,
    refused integer not null default 0,
    acknowledged_us integer
);

-- One set of channels of one device; channels is a JSON array.
create table streams (
    number integer primary key,
    device integer not null references devices,
    channels text not null,
    unique (device, channels)
);

create table files (
    number integer primary key,
    sha256 text not null,
    device integer not null references devices,
    name text not null,
    format text not null,
    options text not null,
    rows_accepted integer not null default 0,
    readings_accepted integer not null default 0,
    rows_acknowledged integer not null default 0,
    readings_acknowledged integer not null default 0,
    complete integer not null default 0,
    last_sequence integer,
    unique (sha256, device)
);

-- How far each source has come, in its own words, in the same commit as its rows.
create table places (
    source text primary key,
    place text not null
);

create table groups (
    id integer primary key,
    stream integer not null references streams,
    accepted_us integer not null,
    rows integer not null,
    readings integer not null,
    has_status integer not null,
    file integer references files,
    patient integer not null default 0, -- from a file: its order matters more than that it is current
    crc32 integer not null,
    body blob not null
);

create table framed (
    group_id integer primary key references groups,
    spool integer not null references spools,
    device integer not null references devices,
    sequence integer not null
);

create index framed_by_identity on framed (spool, device, sequence);

pragma user_version = 1;
