"""What the emulated app writes: a seeded maintenance app, or entries of one fixed length for benchmarks.

Both are deterministic: the same seed and the same calls give the same bodies.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol
from uuid import UUID

import orjson

from oplogbridge.emulator.entry import entry_body
from oplogbridge.emulator.log import Body, Stamped
from oplogbridge.emulator.sequences import iso_second
from oplogbridge.values import SEQUENCE_MAX

DeleteObject = Literal["stamp", "id", "last_state"]

LIVE_OBJECTS_MAX = 5_000  # of all models; beyond it something is deleted for everything created
FIXED_OBJECTS = 10_000

_WORDS = (
    *("pump", "valve", "leak", "report", "inspect", "replace", "filter", "motor", "belt", "gauge", "north", "roof"),
    *(
        "café",
        "naïve",
        "Größe",
        "Straße",
        "señal",
        "zażółć",
        "gęślą",
        "jaźń",
        "насос",
        "проверка",
        "検査",
        "点検",
        "水漏れ",
    ),
    *("أنبوب", "שלום", "ünïcödé", "🛠️", "🔥", "✅", "e\u0301", "\u00a0", "<b>", "&amp;", "\\"),
)
_PEOPLE = ("Zoë", "Łukasz", "Nguyễn Thị", "Joe Smith", "Søren", "李雷", "Анна", "Bruce Wayne", "O'Brien", 'Ana "Nita"')
_STATES = (
    {"key": "open", "display": "Open"},
    {"key": "busy", "display": "In Bearbeitung"},
    {"key": "done", "display": "Done ✓"},
)


class Workload(Protocol):
    delete_object: DeleteObject

    def bodies(self, count: int, unix_second: int) -> Sequence[Body]:
        """The next `count` entries, all written in this second."""


class AppWorkload:
    """Creates, updates and deletes over several models. Updates and deletes mean objects that exist at that moment;
    what refers to a deleted object goes on doing so, as in the vendor's database."""

    def __init__(self, seed: int | str = 0, *, delete_object: DeleteObject = "stamp") -> None:
        self._random = random.Random(seed)
        self._live: list[dict[str, Any]] = []
        self._newest_id: dict[str, str] = {}  # by model; what a relationship points to
        self._deleted: dict[str, Any] | None = None
        self.delete_object = delete_object

    def bodies(self, count: int, unix_second: int) -> list[Body]:
        stamp = iso_second(unix_second).decode()
        return [self._next(stamp) for _ in range(count)]

    def _next(self, stamp: str) -> Body:
        chance = self._random.random()
        crowd = len(self._live)
        if crowd >= 20 and chance < (0.30 if crowd >= LIVE_OBJECTS_MAX else 0.10):
            return self._delete(stamp)
        if crowd < 20 or chance < 0.35:
            return self._create(stamp)
        return self._update(stamp)

    def _create(self, stamp: str) -> Body:
        if self._deleted is not None and self._random.random() < 0.02:
            object_ = self._deleted | {"updated_at": stamp}  # put back under its old id, which is legal
            self._deleted = None
        else:
            model = self._random.choice(_MODELS)
            id_ = str(UUID(int=self._random.getrandbits(128), version=4))
            object_ = {"id": id_, "type": model, "updated_at": stamp}
            object_ |= {name: make(self) for name, make in _FIELDS[model].items()}
            self._newest_id[model] = id_
        self._live.append(object_)
        return entry_body("create", object_)

    def _update(self, stamp: str) -> Body:
        index = self._random.randrange(len(self._live))
        object_ = self._live[index]
        fields = _FIELDS[object_["type"]]
        changed = self._random.sample(list(fields), k=self._random.randint(1, 2))
        object_ = self._live[index] = object_ | {"updated_at": stamp} | {name: fields[name](self) for name in changed}
        return entry_body("update", object_)

    def _delete(self, stamp: str) -> Body:
        index = self._random.randrange(len(self._live))
        self._live[index], self._live[-1] = self._live[-1], self._live[index]
        object_ = self._deleted = self._live.pop()
        match self.delete_object:
            case "last_state":
                shown = object_ | {"updated_at": stamp}
            case "id":
                shown = {"id": object_["id"], "type": object_["type"]}
            case "stamp":
                shown = {"id": object_["id"], "type": object_["type"], "updated_at": stamp}
        return entry_body("delete", orjson.dumps(shown))

    def person(self) -> str:
        return self._random.choice(_PEOPLE)

    def words(self, most: int = 8) -> str:
        return " ".join(self._random.choices(_WORDS, k=self._random.randint(1, most)))

    def notes(self) -> str | None:
        """Mostly nothing or a line; one in two hundred is tens of kilobytes, with everything that needs an escape."""
        chance = self._random.random()
        if chance < 0.005:
            return (self.words(40) + '\n"quoted" \\ back\t</script> \u2028 ') * self._random.randint(60, 200)
        return None if chance < 0.3 else self.words(20)

    def reference(self, model: str) -> str | None:
        return self._newest_id.get(model)

    def state(self) -> dict[str, str] | None:
        return self._random.choice((None, *_STATES))

    def yes_no(self) -> dict[str, Any]:
        return {"key": True, "display": "Yes"} if self._random.random() < 0.5 else {"key": False, "display": "No"}

    def location(self) -> dict[str, Any] | None:
        if self._random.random() < 0.2:
            return None
        latitude, longitude = self._random.uniform(-90, 90), self._random.uniform(-180, 180)
        unknown = dict.fromkeys(("altitude", "horizontal_accuracy", "vertical_accuracy", "timestamp"))
        return {"latitude": latitude, "longitude": longitude, **unknown}

    def checklist(self) -> list[dict[str, Any]]:
        length = self._random.randint(0, 5)
        return [{"step": n, "done": self._random.random() < 0.5, "by": [self.person()]} for n in range(length)]

    def date(self) -> str:
        return f"20{self._random.randint(10, 30)}-{self._random.randint(1, 12):02}-{self._random.randint(1, 28):02}"

    def number(self) -> float | int:
        """Integers that a double cannot hold, too."""
        return self._random.choice(
            (0, -1, 1.5, 1e-7, 2**53 + 1, SEQUENCE_MAX, self._random.randint(0, 10**6), self._random.uniform(0, 1e6))
        )


_FIELDS: dict[str, dict[str, Callable[[AppWorkload], Any]]] = {
    "user": {
        "name": AppWorkload.person,
        "email": lambda app: f"{app.words(1)}@example.com",
        "active": AppWorkload.yes_no,
        "home": AppWorkload.location,
    },
    "category": {"name": AppWorkload.words, "parent_id": lambda app: app.reference("category")},
    "asset": {
        "make": AppWorkload.words,
        "value": AppWorkload.number,
        "purchased_on": AppWorkload.date,
        "location": AppWorkload.location,
        "category_id": lambda app: app.reference("category"),
    },
    "task": {
        "name": AppWorkload.words,
        "instructions": AppWorkload.notes,
        "status": AppWorkload.state,
        "checklist": AppWorkload.checklist,
        "assignee_id": lambda app: app.reference("user"),
        "asset_id": lambda app: app.reference("asset"),
        "category_id": lambda app: app.reference("category"),
    },
    "inspection_report": {
        "findings": AppWorkload.notes,
        "passed": AppWorkload.yes_no,
        "measured": lambda app: {"pressure": app.number(), "levels": [[app.number()], []], "": {"deep": {"er": None}}},
        "task_id": lambda app: app.reference("task"),
    },
}
_MODELS = ("user", "category", "asset", "asset", "task", "task", "task", "inspection_report")


class FixedWorkload:
    """Every entry is exactly `entry_bytes` long as the page shows it with `sequence_ids=true`.

    First each of its objects is created, then they are updated in turn for ever. Rows share their bodies, so that
    millions of entries need memory for thousands.
    """

    def __init__(self, entry_bytes: int, seed: int | str = 0, *, objects: int = FIXED_OBJECTS) -> None:
        source = random.Random(seed)
        self.delete_object: DeleteObject = "stamp"  # it deletes nothing
        self._created: list[Body] = []
        self._updated: list[Body] = []
        self._at = 0
        for _ in range(objects):
            id_ = UUID(int=source.getrandbits(128), version=4)
            self._created.append(_padded("create", id_, entry_bytes, source))
            self._updated.append(_padded("update", id_, entry_bytes, source))

    def bodies(self, count: int, unix_second: int) -> list[Body]:
        bodies: list[Body] = []
        while len(bodies) < count:
            turn, index = divmod(self._at, len(self._created))
            part = (self._updated if turn else self._created)[index : index + count - len(bodies)]
            bodies += part
            self._at += len(part)
        return bodies


def _padded(operation: str, id_: UUID, entry_bytes: int, source: random.Random) -> Stamped:
    object_ = {"id": str(id_), "type": "reading", "value": source.randint(100_000, 999_999), "text": ""}
    body = entry_body(operation, object_)
    assert isinstance(body, Stamped)
    shown = b'{"sequence_id":"%d",%b' % (SEQUENCE_MAX, body.at(SEQUENCE_MAX >> 33))
    missing = entry_bytes - len(shown)
    if missing < 0:
        raise ValueError(f"entry_bytes must be at least {len(shown)}")
    text = "".join(source.choices(string.ascii_letters + " ", k=missing))
    return Stamped(body.before, body.after.removesuffix(b'"}}') + text.encode() + b'"}}')
