"""The vendor's own JavaScript client, as it is published, at the emulator."""

from __future__ import annotations

from typing import Any

import rig
from needed import needed
from planted import PASSWORD
from services import vendor_client

ENTRIES = 10_000


def test_it_pages_through_ten_thousand_entries_and_reads_schema_info_and_indexes() -> None:
    with rig.emulator("--entries", str(ENTRIES)) as emulator, needed():
        found = vendor_client.read_all(emulator.root, emulator.deployment, PASSWORD)
        ours: list[dict[str, Any]] = emulator.entries()

    assert found["sequences"] == [entry["sequence_id"] for entry in ours]
    assert len(ours) == ENTRIES
    assert found["pages"] >= ENTRIES // 1000
    assert found["schema"]["models"].keys() == found["indexes"]["models"].keys()
    assert found["info"]["app_id"] == emulator.deployment
