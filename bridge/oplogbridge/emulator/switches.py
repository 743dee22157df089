"""Where the vendor's documentation is silent, the emulator's answer is a switch. docs/emulator.md lists them."""

from __future__ import annotations

from typing import Literal

import msgspec


class Switches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit_default: int = 400
    limit_max: int = 1000
    limit_above_max: Literal["clamp", "reject"] = "clamp"
    tail_default: int = 400
    tail_order: Literal["ascending", "descending"] = "ascending"
    sequence_ids: Literal["honoured", "ignored"] = "honoured"
    sequence_beside_id: bool = False  # with sequence_ids=true: the number as well as the string
    sequence_numbers: Literal["exact", "rounded"] = "exact"  # rounded: as a JavaScript server prints them
    next_start_on_empty: Literal["present", "absent"] = "present"
    delete_object: Literal["stamp", "id", "last_state"] = "stamp"  # {id,type,updated_at} | {id,type} | what it last was
    unknown_option: Literal["key", "null"] = "key"  # of a choice whose option is gone: {key, display: null} | null
    unknown_field: Literal["ignore", "reject"] = "ignore"  # in a write
    no_op_update: Literal["entry", "nothing"] = "entry"  # whether a PATCH that changes nothing is logged
    create_status: Literal[200, 201] = 201
    attachment_entry: bool = True  # whether an upload that came later writes an entry for the objects that have it
    retry_after: bool = False  # whether the emulator's own rate limit sends Retry-After
    gzip: bool = True  # compress when the client accepts it; off for benchmarks
