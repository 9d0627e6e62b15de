"""A person's JSON file is a model, or one line that says where it is wrong."""

import pytest
from pydantic import BaseModel

from schemas.errors import Refused
from schemas.json_file import BYTES_MAX, JsonFile


class Mast(BaseModel):
    name: str
    heights: list[float]


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as refused:
        JsonFile(data, name="mast.json").as_model(Mast)
    return str(refused.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON: Expecting value (line 1, column 1)"),
        (b'{\n"name": "a",\n}', "is not JSON: Expecting property name enclosed in double quotes (line 3, column 1)"),
        (b'{"name":\n"\xff"}', "must be text in UTF-8: invalid start byte (line 2)"),
        (b'{"heights": [NaN]}', "NaN is not JSON; write null for a number that is not known"),
        (b'{"heights": [' + b"1" * 5000 + b"]}", "has a whole number of more than 4300 digits"),
        (b"[" * 100_000, "is nested too deeply to be a configuration"),
        (b'{"name": "\\uD800", "heights": []}', r"has half a character (\ud800 to \udfff without its partner)"),
        (b"7", "must be an object, got 7 (line 1)"),
        (b"{}", "name is missing; and 1 more (line 1)"),
        (b'{"name": "a",\n "heights": [1,\n {}]}', "heights[1] must be a number, got {} (line 3)"),
        (b'{"heights": [1],\n "heights":\n 5, "name": "a"}', "heights must be a list, got 5 (line 3)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named_with_its_path_and_line(data: bytes, message: str) -> None:
    told = refusal(data)
    assert told.startswith("mast.json: ")
    assert message.removesuffix(")") in told


def test_byte_order_mark_is_no_error() -> None:
    assert JsonFile(b'\xef\xbb\xbf{"name": "a", "heights": []}', name="x").as_model(Mast).name == "a"


def test_long_value_is_cut_in_the_message() -> None:
    assert len(refusal(b'{"name": [' + b'"x",' * 1000 + b'"x"], "heights": []}')) < 200


def test_file_beyond_the_limit_is_refused_before_it_is_read() -> None:
    assert f"more than the {BYTES_MAX}" in refusal(b" " * (BYTES_MAX + 1))
