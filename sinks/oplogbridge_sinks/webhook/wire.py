"""What one request looks like: the event as a NATS consumer would get it, signed as Standard Webhooks has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from oplogbridge.templates import Template, token
from oplogbridge.values import Event
from oplogbridge_sinks.webhook.signature import signatures

CLOUDEVENTS, CLOUDEVENTS_BATCH = b"application/cloudevents+json", "application/cloudevents-batch+json"


class Requests:
    """Makes the requests of one sink."""

    def __init__(self, source: str, keys: Sequence[bytes], headers: Mapping[str, str], *, as_array: bool) -> None:
        self._id_prefix = quote(source, safe="").replace(".", "%2E")  # a dot ends the id in what is signed
        self._keys = keys
        self._headers = dict(headers)
        self._as_array = as_array
        self._subject = Template("{source}.{type}.{operation}", constants={"source": source}, escape=token)

    def made(self, events: Sequence[Event], *, timestamp: int, count: int) -> tuple[bytes, dict[str, str]]:
        """Body and headers for these events, which are sent for the `count`th time."""
        first, last = events[0], events[-1]
        headers = self._headers.copy()
        for name, value in last.headers:
            headers[name] = value.decode()
        if self._as_array:
            body = b"[" + b",".join([event.payload for event in events]) + b"]"
            webhook_id = f"{self._id_prefix}-{first.id}-{last.id}"
            if dict(last.constant_headers).get("content-type") == CLOUDEVENTS:
                headers["content-type"] = CLOUDEVENTS_BATCH
        else:
            body, webhook_id = first.payload, f"{self._id_prefix}-{first.id}"
            headers["Nats-Subject"] = self._subject.destination(first.object_type, first.operation)
            headers["Oplog-Key"] = quote(first.key, safe="/!#$&'()*+,:;=?@[]~")
        headers["Nats-Msg-Id"] = headers["webhook-id"] = webhook_id
        headers["Nats-Num-Delivered"] = str(count)
        headers["webhook-timestamp"] = str(timestamp)
        if self._keys:
            headers["webhook-signature"] = signatures(self._keys, webhook_id, timestamp, body)
        return body, headers
