"""Seeded mutations of known inputs, without coverage: quick, and repeatable from a number."""

from __future__ import annotations

import random
from collections.abc import Sequence

BYTES_MAX = 64 * 1024
TOKENS = (
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"true",
        b"-1",
        b"0",
        b"1e999",
        b"NaN",
        b"\\ud800",
        b"\\u0000",
    ),
    *(b"9223372036854775807", b"9223372036854775808", b"-0", b"1.0", b"\xff", b"\xed\xa0\x80", b"\x00", b"\n"),
    *(b"\r\n", b"NaN"),
    *(b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"%", b"${", b"}}", b"{{", b"&a", b"*a", b"!!python/object:os.system"),
    *("\u00e9".encode(), "\u0661".encode(), "\u2028".encode(), "\U0001f525".encode()),
    *(b'"sequence_id":"5",', b'"sequence":5,', b'"object":{},', b'"entries":[],', b'"v":2,', b'"offset":"-1",'),
)


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at:at] = chance.choice(TOKENS)
            case 1:
                del data[at : at + chance.choice((1, 1, 2, 10, 100))]
            case 2:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                data[at : at + chance.randrange(1, 20)] = chance.choice(TOKENS)
            case 4:
                other = chance.choice(seeds)
                begin = chance.randrange(len(other) + 1)
                data[at:at] = other[begin : begin + chance.randrange(200)]
            case _:
                begin = chance.randrange(len(data) + 1)
                data[at:at] = data[begin : begin + chance.randrange(200)]
    return bytes(data[:BYTES_MAX])
