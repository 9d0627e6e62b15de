"""A small file of each format, of our own making, with the traps that real ones have. Bytes as they lie on disk."""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

EPOCH_1990 = datetime(1990, 1, 1, tzinfo=UTC)
BEGAN = datetime(2026, 2, 19, 9, 46, 17, tzinfo=UTC)


def crlf(*lines: str, encoding: str = "utf-8") -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode(encoding)


def toa5(rows: int = 40) -> bytes:
    head = (
        '"TOA5","hill","CR1000X","12342","CR1000X.Std.03.02","CPU:hill.CR1X","2438","ten"',
        '"TIMESTAMP","RECORD","WS(1)_Avg","WS_Max","WS_TMx","RH","Note","Serial","Batt"',
        '"TS","RN","m/s","m/s","","% ","","","Volts"',
        '"","","Avg","Max","TMx","Smp","Smp","Smp","Min"',
    )
    body = [
        f'"2024-02-{1 + n // 24:02} {n % 24:02}:00:00{".5" if n % 7 == 3 else ""}",{n},{n / 10},'
        f'{n / 5 if n % 9 else chr(34) + "NAN" + chr(34)},"2024-02-01 00:03:00",{50 + n},"ok","00{n}",12.{n % 10}'
        for n in range(rows)
    ]
    return crlf(*head, *body)


def toaci1() -> bytes:
    head = ('"TOACI1","weir","Min15"', '"TMSTAMP","RECNBR","Stage","Rain","Note"')
    body = [
        f'"2024-03-{1 + n // 24:02} {n % 24:02}:15:00",{n},{n / 4 if n % 9 else "NAN"},0.{n % 10},"ok"'
        for n in range(40)
    ]
    return crlf(*head, *body)


SYMPHONIE_HEAD = (
    "NRG Export Service",
    "Software Version:\t1.0.0.1",
    "Export Parameters",
    "Site Number:\t004310",
    "Data Type:\tMeasurements",
    "",
    "Site Properties",
    "Site Description:\thill",
    "Time Zone:\tUTC-5:00",
    "",
    "Logger History",
    "Date:\t2022-03-17 06:10:02",
    "Model:\tSymphoniePRO Logger (8206)",
    "Serial Number:\t820604310",
    "",
    "iPack History",
    "Model:\tiPackACCESS (7984)",
    "Serial Number:\t716900805",
    "",
    "Sensor History",
    "Channel:\t2",
    "Effective Date:\t2022-03-17 06:10:02",
    "Type:\tAnemometer",
    "Data Logging Mode:\tStatistics",
    "Description:\tNRG S1",
    "Serial Number:\t2020-02-09",
    "Height:\t85.00",
    "Bearing:\t189.00",
    "Scale Factor:\t0.09350",
    "Offset:\t0.13900",
    "Units:\tm/s",
    "",
    "Channel:\t108",
    "Type:\tCalculated",
    "Units:\t",
    "",
)


def symphonie(rows: Sequence[str] | None = None, *, first: str = SYMPHONIE_HEAD[0]) -> bytes:
    names = "Timestamp\tCh2_Anem_85.00m_S_Avg_m/s\tCh2_Anem_85.00m_S_SD_m/s\tCh108_Calculated___Avg_"
    body = [f"2022-03-17 06:{n:02}:00\t0.139000\t{n / 8:.6f}\t{'' if n == 3 else f'{n:.6f}'}" for n in range(30)]
    text = "\n".join([first, *SYMPHONIE_HEAD[1:], "Data", names, *(body if rows is None else rows), ""])
    return text.encode()


def logr(*, content: str = "Statistics") -> bytes:
    head = [
        "NRG Systems Data Logger",
        "File Created On (UTC):\t2024-01-11T13:00:01Z",
        "Model Number:\t9432",
        "Serial Number:\t304",
        "Site:\troof",
        "Time Zone:\t-5",
        f"File Content:\t{content}",
        "Configuration Version:\t4",
        "Sensor History",
        "Channel:\t1",
        "Description:\tGHI",
        "Units:\tW/m^2",
        "Serial Number:\t945",
        "",
        "Channel:\t12",
        "Description:\tvane",
        "Units:\tdeg",
        "",
        "Data",
        "Timestamp\tCh1_Avg_W/m^2\tCh1_Min_W/m^2\tCh1_Max_W/m^2\tCh1_SD_W/m^2\tCh1_NotUsed\tCh12_Avg_deg\tCh12_Gust_Dir_deg",
    ]
    body = [
        f"2024-01-11T13:{n:02}:00Z\t{n}.5000\t{n}.1\t{n}.9\t0.1705\t0.0000\t{n * 9 % 360}.2500\t0.0000"
        for n in range(30)
    ]
    return ("\ufeff" + "\n".join([*head, *body, ""])).encode()


def hobo() -> bytes:
    head = (
        '"Plot-Titel: KLG"',
        '"Anz.","Datum Zeit, GMT+02:00","Temp., °C (LGR S/N: 21309858, SEN S/N: 7, LBL: Luft)",'
        '"Intensität, Lux (LGR S/N: 21309858, SEN S/N: 7)","Host verbunden (LGR S/N: 21309858)",'
        '"Dateiende (LGR S/N: 21309858)"',
    )
    body = [
        f"{n},07.{26 + n // 24:02}.22 {(n % 12) or 12:02}:00:00 {'AM' if n % 24 < 12 else 'PM'},{20 + n / 8:.3f},{n}.5,"
        ","
        for n in range(40)
    ]
    events = ["41,07.27.22 05:10:00 PM,,,Protokolliert,", "42,07.27.22 05:20:00 PM,21.5,1.5,,Protokolliert"]
    return ("\ufeff" + "\n".join([*head, *body, *events, ""])).encode()


def windographer() -> bytes:
    head = (
        "Created 10-05-2019 14:36 by Windographer 4.1.14",
        "",
        "Latitude = N 53.304900",
        "Time stamps indicate the beginning of the time step.",
        "",
        "Date/Time\tSpeed 80m N [m/s]\tSpeed 80m N SD [m/s]\tDirection 78m [°]",
    )
    body = [
        f"2016-12-20 {n // 6:02}:{n % 6}0:00\t{n / 10}\t{n / 90:.3f}\t{'' if n == 5 else n * 7 % 360}"
        for n in range(40)
    ]
    return crlf(*head, *body, encoding="latin-1")


def nrg_9300() -> bytes:
    head = ["Read by,DR Version,1.2", "Model,9300", "Serial,930001", "Latitude,44.1", "Channel #,1", "Description,#40C"]
    head += ["Height,50 ft", "Scale Factor,1.711", "Offset,0.78", "Units,mph", "", "Date & Time Stamp,CH1Avg,CH1SD"]
    body = [f"1/{2 + n // 24}/10 {n % 24}:00,{n}.1,{'' if n == 4 else 1}" for n in range(48)]
    return "\r".join([*head, *body, ""]).encode()


MIXED_MAP = """
utc_offset = "+00:00"
stamp = "end"
interval_s = 600
[[arrays]]
id = 101
columns = ["Spd", "skip", "T"]
missing = ["-6999", "6999"]
[[arrays]]
id = 60
columns = ["Batt"]
"""


def mixed_array() -> bytes:
    rows = []
    for n in range(24):
        rows.append(f"101,2008,366,{n}30,{n},1,{'-6999' if n == 3 else '.071'}")
        rows.append(f"60,2008,366,{n + 1}00,12.{n % 10}")
    return crlf(*rows)


def tob1(rows: int = 30) -> bytes:
    head = crlf(
        '"TOB1","hill","CR1000X","64291","CR1000X.Std.08.01","CPU:x.cr1x","42580","fast"',
        '"SECONDS","NANOSECONDS","RECORD","Note","Low","Four","Eight","Two","On","When"',
        '"SECONDS","NANOSECONDS","RN","","degC","degC","degC","","",""',
        '"","","","Smp","Avg","Avg","Avg","Smp","Smp","TMx"',
        '"ULONG","ULONG","ULONG","ASCII(8)","FP2","IEEE4","IEEE8","UINT2","BOOL","SecNano"',
    )
    body = b"".join(tob1_row(n) for n in range(rows))
    return head + body


def seconds_1990(at: datetime) -> int:
    return int((at - EPOCH_1990).total_seconds())


def fp2(value: float | None) -> bytes:
    """None is not a number."""
    if value is None:
        return b"\x9f\xfe"
    for exponent in (3, 2, 1, 0):
        mantissa = round(abs(value) * 10**exponent)
        if mantissa < 7999:
            return struct.pack(">H", (0x8000 if value < 0 else 0) | exponent << 13 | mantissa)
    return b"\x1f\xff"  # infinity


def tob1_row(n: int) -> bytes:
    when = seconds_1990(BEGAN)
    note = f"n{n}".encode().ljust(8, b"\0")
    return (
        struct.pack("<III", when + n // 20, n % 20 * 50_000_000, 5000 + n)
        + note
        + fp2(None if n == 2 else -n / 8)
        + struct.pack("<fd", n / 10, n / 3)
        + struct.pack(">H", n & 0xFFFF)
        + bytes([n % 2])
        + struct.pack("<II", when, 0)
    )


TOB3_ROWS_IN_FRAME = 4
TOB3_STAMP = 13541


def tob3_head(frame_bytes: int) -> bytes:
    return crlf(
        '"TOB3","hill","CR1000X","64291","CR1000X.Std.08.01","CPU:x.cr1x","42580","2026-02-19 09:46:08"',
        f'"ring","50 MSEC","{frame_bytes}","216","{TOB3_STAMP}","Sec100Usec","  0","  0","2560769343"',
        '"Note","Low","Four","Two","Long"',
        '"","degC","degC","",""',
        '"Smp","Avg","Avg","Smp","Smp"',
        '"ASCII(8)","FP2","IEEE4B","UINT2","INT4"',
    )


def tob3_row(n: int) -> bytes:
    return (
        f"n{n}".encode().ljust(8, b"\0") + fp2(None if n == 2 else n / 8) + struct.pack(">fHi", n / 10, n & 0xFFFF, -n)
    )


def tob3_frame(first: int, count: int, *, stamp: int = TOB3_STAMP, minor_bytes: int = 0, flags: int = 0) -> bytes:
    """A frame of rows; with `minor_bytes` the footer of a smaller one."""
    at = seconds_1990(BEGAN)
    units = first * 500  # 50 ms each, in units of 100 us
    head = struct.pack("<III", at + units // 10_000, units % 10_000, 5000 + first)
    body = b"".join(tob3_row(first + n) for n in range(count))
    return head + body + struct.pack("<I", stamp << 16 | flags << 11 | minor_bytes)


def tob3() -> bytes:
    """A full frame, one closed early that holds two smaller ones, the complement's stamp, and a lap that is stale."""
    size = len(tob3_frame(0, TOB3_ROWS_IN_FRAME))
    small = len(tob3_frame(0, 1))
    early = tob3_frame(4, 1, minor_bytes=small, flags=0b10000) + tob3_frame(
        5, 1, minor_bytes=small, flags=0b10000, stamp=TOB3_STAMP - 1
    )
    rest = size - len(early)
    early += b"\x55" * (rest - 4) + struct.pack("<I", TOB3_STAMP << 16 | 0b11000 << 11 | rest)
    stale = tob3_frame(900, TOB3_ROWS_IN_FRAME, stamp=4711)
    frames = tob3_frame(0, 4) + early + tob3_frame(6, 4, stamp=0xFFFF ^ TOB3_STAMP) + stale
    return tob3_head(size) + frames


def described() -> bytes:
    return crlf(
        "Station Höhe",
        "Datum;Zeit;Wind (m/s);Temp;Bem",
        *(f"{1 + n // 24:02}.02.2024;{n % 24:02}:10;7,{n};-999;x" for n in range(40)),
        encoding="latin-1",
    )


DESCRIPTION = """
delimiter = ";"
decimal = ","
header_line = 2
first_line = 3
missing = ["-999"]
utc_offset = "+02:00"
stamp = "end"
interval_s = 600
[time]
columns = ["Datum", "Zeit"]
format = "%d.%m.%Y %H:%M"
"""

EXAMPLES: dict[str, bytes] = {
    "toa5": toa5(),
    "toaci1": toaci1(),
    "tob1": tob1(),
    "tob3": tob3(),
    "nrg-cloud": symphonie(),
    "nrg-symphoniepro": symphonie(first="SymphoniePRO Desktop Application"),
    "nrg-logr": logr(),
    "nrg-9300": nrg_9300(),
    "hoboware": hobo(),
    "windographer": windographer(),
    "mixed-array": mixed_array(),
    "described": described(),
}
DESCRIBED_BY = {"mixed-array": MIXED_MAP, "described": DESCRIPTION}
