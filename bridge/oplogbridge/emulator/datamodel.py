"""The data model of the emulated app: read from a file that a person writes, shown as the vendor shows it.

The file is the vendor's own `datamodel.json`, or YAML in short: a field is its type, options are a mapping of key to
display, a relationship is the other model's name.

    app_user: user
    models:
      user: {display: "{name}", fields: {name: text}}
      task:
        fields: {name: text, status: {type: single-choice-integer, options: {0: Open, 1: Closed}}}
        belongs_to: {owner: user}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson
import yaml

from oplogbridge.errors import ConfigError

FIELD_TYPES = frozenset(
    {
        "text",
        "integer",
        "number",
        "boolean",
        "date",
        "datetime",
        "location",
        "single-choice",
        "single-choice-integer",
        "multiple-choice",
        "multiple-choice-integer",
        "photo",
        "signature",
        "attachment",
        "track",
    }
)
ATTACHMENT_TYPES = frozenset({"photo", "signature", "attachment"})
CHOICE_TYPES = frozenset({"single-choice", "single-choice-integer", "multiple-choice", "multiple-choice-integer"})
RESERVED_NAMES = frozenset({"id", "type", "object", "account", "_id", "_type", "account_id", "attribute"})
_BOOLEAN_OPTIONS = ({"key": True, "display": "Yes"}, {"key": False, "display": "No"})
_V1_TYPES = {
    "text": "string",
    "integer": "int",
    "number": "decimal",
    "boolean": "enum",
    "single-choice": "enum",
    "single-choice-integer": "enum",
    "multiple-choice": "enum_set",
    "multiple-choice-integer": "enum_set",
}


class Option(msgspec.Struct, frozen=True):
    key: bool | int | str
    display: str


class Field(msgspec.Struct, frozen=True):
    name: str
    label: str | None
    type: str
    subtype: str | None = None
    options: tuple[Option, ...] | None = None

    def option(self, key: object) -> Option | None:
        return next((one for one in self.options or () if one.key == key and type(one.key) is type(key)), None)


class Relation(msgspec.Struct, frozen=True):
    """To one other object (belongs to) or to many (has many)."""

    model: str
    name: str
    inverse_of: str | None = None


class Model(msgspec.Struct, frozen=True):
    name: str
    label: str | None
    display: str | None
    fields: dict[str, Field]
    belongs_to: dict[str, Relation]
    has_many: dict[str, Relation]

    @property
    def plural(self) -> str:
        return plural_of(self.name)


class DataModel(msgspec.Struct, frozen=True):
    models: dict[str, Model]
    app_user: str | None = None

    @property
    def hash(self) -> str:
        """32 hexadecimal digits, which look like MD5 in the vendor's example."""
        return hashlib.md5(orjson.dumps(self.shown()), usedforsecurity=False).hexdigest()

    def find(self, name: str) -> Model | None:
        """By the singular or the plural, as the vendor's own examples do both."""
        return self.models.get(name) or next((model for model in self.models.values() if model.plural == name), None)

    def shown(self) -> dict[str, Any]:
        """The vendor's JSON, without the hash."""
        models = {}
        for name, model in self.models.items():
            shown = msgspec.to_builtins(model)
            for field in shown["fields"].values():
                for optional in ("subtype", "options"):
                    if field[optional] is None:
                        del field[optional]
            models[name] = shown
        return {"models": models, "app_user": self.app_user}

    def shown_v1(self) -> dict[str, Any]:
        """In the words of v1: objects and attributes."""
        return {
            "objects": {
                name: {
                    "name": name,
                    "label": model.label,
                    "attributes": {
                        field.name: {
                            "name": field.name,
                            "label": field.label,
                            "type": _V1_TYPES.get(field.type, field.type),
                        }
                        for field in model.fields.values()
                    },
                    "belongs_to": {
                        one.name: {"name": one.name, "type": one.model} for one in model.belongs_to.values()
                    },
                    "has_many": {one.name: {"name": one.name, "type": one.model} for one in model.has_many.values()},
                }
                for name, model in self.models.items()
            }
        }


def plural_of(name: str) -> str:
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def load_datamodel(path: Path) -> DataModel:
    """YAML, of which JSON is a part. Raises ConfigError with everything that is wrong."""
    try:
        given = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"is no YAML: {error}"]) from error
    try:
        return datamodel_of(given)
    except ValueError as error:
        raise ConfigError(str(path), str(error).split("\n")) from error


def datamodel_of(given: Any) -> DataModel:
    """Raises ValueError; each line of it is one thing that is wrong."""
    if not isinstance(given, Mapping) or not isinstance(given.get("models"), Mapping):
        raise ValueError("models: a mapping of names to models is needed")
    problems: list[str] = []
    models: dict[str, Model] = {}
    for name, model in given["models"].items():
        if model is not None and not isinstance(model, Mapping):
            problems.append(f"models.{name}: must be a mapping")
        models[str(name)] = _model(str(name), model if isinstance(model, Mapping) else {}, problems)
    for model in models.values():
        problems += [
            f"models.{model.name}: {relation.name} means the model {relation.model}, which is not there"
            for relation in (*model.belongs_to.values(), *model.has_many.values())
            if relation.model not in models
        ]
    app_user = given.get("app_user")
    if app_user is not None and app_user not in models:
        problems.append(f"app_user: the model {app_user} is not there")
    problems += _shared_inverses(models)
    if problems:
        raise ValueError("\n".join(problems))
    return DataModel(_with_inverses(models), app_user)


def _model(name: str, given: Mapping[Any, Any], problems: list[str]) -> Model:
    for key, shape in {
        "fields": Mapping,
        "belongs_to": Mapping,
        "has_many": Mapping,
        "label": str,
        "display": str,
    }.items():
        if given.get(key) is not None and not isinstance(given[key], shape):
            problems.append(f"models.{name}.{key}: must be {'text' if shape is str else 'a mapping'}")
            given = {other: value for other, value in given.items() if other != key}
    fields = {}
    for field_name, field in (given.get("fields") or {}).items():
        fields[str(field_name)] = _field(f"models.{name}.fields.{field_name}", str(field_name), field, problems)
    relations: dict[str, dict[str, Relation]] = {"belongs_to": {}, "has_many": {}}
    for kind, found in relations.items():
        for relation, target in (given.get(kind) or {}).items():
            target = {"model": target} if isinstance(target, str) else target
            if not isinstance(target, Mapping) or not isinstance(target.get("model"), str):
                problems.append(f"models.{name}.{kind}.{relation}: the other model's name is needed")
                continue
            if not isinstance(target.get("inverse_of"), str | None):
                problems.append(f"models.{name}.{kind}.{relation}.inverse_of: must be text")
                continue
            found[str(relation)] = Relation(target["model"], str(relation), target.get("inverse_of"))
    return Model(
        name=name,
        label=given.get("label", name.replace("_", " ").capitalize()),
        display=given.get("display"),
        fields=fields,
        belongs_to=relations["belongs_to"],
        has_many=relations["has_many"],
    )


def _field(where: str, name: str, given: Any, problems: list[str]) -> Field:
    given = {"type": given} if isinstance(given, str) else given
    if not isinstance(given, Mapping) or str(given.get("type")) not in FIELD_TYPES:
        problems.append(f"{where}: its type is one of {', '.join(sorted(FIELD_TYPES))}")
        return Field(name, None, "text")
    if name in RESERVED_NAMES:
        problems.append(f"{where}: {name} is a reserved name")
    kind = given["type"]
    options = given.get("options")
    if isinstance(options, Mapping):
        options = [{"key": key, "display": display} for key, display in options.items()]
    if options is None and kind == "boolean":
        options = [*_BOOLEAN_OPTIONS]
    try:
        chosen = None if options is None else msgspec.convert(options, tuple[Option, ...])
    except msgspec.ValidationError as error:
        problems.append(f"{where}.options: {error}")
        chosen = ()
    if kind in CHOICE_TYPES and not chosen:
        problems.append(f"{where}: a choice needs options")
    wanted = int if kind.endswith("-integer") else str
    if kind in CHOICE_TYPES and any(type(option.key) is not wanted for option in chosen or ()):
        problems.append(f"{where}.options: the keys of a {kind} are {'integers' if wanted is int else 'text'}")
    if options is not None and kind not in CHOICE_TYPES and kind != "boolean":
        problems.append(f"{where}.options: a field of type {kind} has none")
    for key in ("label", "subtype"):
        if not isinstance(given.get(key), str | None):
            problems.append(f"{where}.{key}: must be text")
            return Field(name, None, kind)
    label = given.get("label", name.replace("_", " ").capitalize())
    return Field(name, label, kind, given.get("subtype"), chosen)


def _shared_inverses(models: Mapping[str, Model]) -> Iterator[str]:
    """Two belongs-to of one model to another cannot have one has-many: it would be the first one's alone."""
    for model in models.values():
        taken: dict[tuple[str, str], str] = {}
        for relation in model.belongs_to.values():
            inverse = relation.model, relation.inverse_of or model.plural
            if taken.setdefault(inverse, relation.name) != relation.name:
                yield (
                    f"models.{model.name}.belongs_to.{relation.name}: shares the name {inverse[1]} with "
                    f"{taken[inverse]}: give it an `inverse_of` of its own"
                )


def _with_inverses(models: dict[str, Model]) -> dict[str, Model]:
    """A has-many for each belongs-to that names none: the plural of the model that has it."""
    found = dict(models)
    for model in models.values():
        for relation in model.belongs_to.values():
            other = found[relation.model]
            if any(
                one.model == model.name and one.inverse_of in (None, relation.name) for one in other.has_many.values()
            ):
                continue
            inverse = relation.inverse_of or model.plural
            has_many = other.has_many | {inverse: Relation(model.name, inverse, relation.name)}
            found[other.name] = msgspec.structs.replace(other, has_many=has_many)
            mine = found[model.name].belongs_to | {relation.name: msgspec.structs.replace(relation, inverse_of=inverse)}
            found[model.name] = msgspec.structs.replace(found[model.name], belongs_to=mine)
    return found
