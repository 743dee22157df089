"""A page that went through another process makes the same events as the page itself."""

from __future__ import annotations

import orjson
import pytest

from oplogbridge.admin.whole_pages import page_of_view, whole_page_view
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.payloads import Format
from oplogbridge.codec.subjects import Filter
from oplogbridge.errors import Unavailable
from oplogbridge.source.decode import PageDecoder
from pages import entry, page

ODD = b'{ "id":"7",\t"type":"user","updated_at":"2015-02-05T08:15:17Z","n":1.50,"s":"\\u00e9 \xc3\xa9" }'


@pytest.mark.parametrize("format_", ["cloudevents", "raw", "flat", "debezium"])
def test_a_page_comes_out_as_it_went_in(format_: Format) -> None:
    body = page(
        entry("6112271540663877633", object_=ODD, app_id=None, added=[1, {"a": None}]),
        entry("6112271540663877634", operation="delete"),
        b'{"sequence_id":"6112271540663877640","operation":7}',
        has_more=True,
        next_request_start="6112271540663877700",
    )
    there = PageDecoder(keep_raw=True).decode(body, 5)

    here = page_of_view(orjson.loads(orjson.dumps(whole_page_view(there))))

    codec = Codec(source="shop", format=format_, filter=Filter("shop"))
    assert codec.events(here) == codec.events(there)
    assert (here.from_offset, here.next_offset, here.more) == (there.from_offset, there.next_offset, there.more)
    assert here.datamodel_hash == there.datamodel_hash
    assert [one.sequence for one in here.malformed] == [one.sequence for one in there.malformed]


def test_the_answer_of_a_version_that_knows_no_such_view_is_said_to_be_one() -> None:
    with pytest.raises(Unavailable, match="the same version"):
        page_of_view({"from_offset": "1", "next_offset": "2", "more": True, "entries": [], "malformed": []})
