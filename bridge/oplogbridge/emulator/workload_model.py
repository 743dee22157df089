"""The data model of the workload's app.

Two of the fields that it writes, `checklist` and `measured`, stand in no model: entries may have more than it says.
"""

from __future__ import annotations

from oplogbridge.emulator.datamodel import datamodel_of

WORKLOAD_MODEL = datamodel_of(
    {
        "app_user": "user",
        "models": {
            "user": {
                "display": "{name}",
                "fields": {
                    "name": {"type": "text", "subtype": "name"},
                    "email": {"type": "text", "subtype": "email"},
                    "active": "boolean",
                    "home": "location",
                },
            },
            "category": {"display": "{name}", "fields": {"name": "text"}, "belongs_to": {"parent": "category"}},
            "asset": {
                "display": "{make}",
                "fields": {
                    "make": "text",
                    "value": "number",
                    "purchased_on": "date",
                    "location": "location",
                    "photo": "photo",
                },
                "belongs_to": {"category": "category"},
            },
            "task": {
                "display": "{name}",
                "fields": {
                    "name": "text",
                    "instructions": {"type": "text", "subtype": "paragraph"},
                    "status": {
                        "type": "single-choice",
                        "options": {"open": "Open", "busy": "In Bearbeitung", "done": "Done ✓"},
                    },
                },
                "belongs_to": {
                    "assignee": {"model": "user", "inverse_of": "tasks"},
                    "asset": "asset",
                    "category": "category",
                },
            },
            "inspection_report": {
                "fields": {
                    "findings": {"type": "text", "subtype": "paragraph"},
                    "passed": "boolean",
                    "signature": "signature",
                    "document": "attachment",
                },
                "belongs_to": {"task": "task"},
            },
            "reading": {"fields": {"value": "number", "text": "text"}},
        },
    }
)
