-- What the broker has acknowledged and the settings keep for a while, to be sent again on demand. Apart from `groups`,
-- so that nothing that counts, cuts or sends meets it. A frame is kept whole, and goes whole.

create table if not exists kept (
    id integer primary key autoincrement, -- never used twice: a request knows what it means by it
    spool integer not null references spools,
    device integer not null references devices,
    sequence integer not null,
    stream integer not null references streams,
    acknowledged_us integer not null,
    first_us integer not null, -- of its readings
    last_us integer not null,
    rows integer not null,
    readings integer not null,
    has_status integer not null,
    crc32 integer not null,
    body blob not null
);

create index if not exists kept_by_identity on kept (spool, device, sequence);

-- What a person asked to be sent again, of what was kept up to `id_max`; the writer answers it piece by piece.
create table if not exists resends (
    number integer primary key,
    from_us integer not null,
    to_us integer not null,
    device integer references devices, -- null: all
    id_max integer not null
);
