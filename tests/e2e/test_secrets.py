"""No page, answer, metric, log line, error or output of a command shows a secret of the configuration."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import planted
import rig
from services import RedisServer

WEBHOOK_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ADMIN_TOKEN = "correct-horse"
NOBODY = "127.0.0.1:1"


def answer(url: str, **headers: str) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as found:
            return str(found.headers) + found.read().decode()
    except urllib.error.HTTPError as refused:
        return str(refused.headers) + refused.read().decode()


def test_nothing_that_the_bridge_says_shows_a_secret(tmp_path: Path, own_redis: Callable[..., RedisServer]) -> None:
    """Half of the destinations are there, half are not, or refuse the login: what works and what complains."""
    server = own_redis(config={"requirepass": planted.PASSWORD})
    login = f"redis://:{planted.PASSWORD}@127.0.0.1:{server.port}"
    sasl = {"mechanism": "PLAIN", "username": "bridge", "password": "bridge-secret"}
    sinks = {
        "redis": {"kind": "redis", "url": login, "stream": "events"},
        "refused": {"kind": "redis", "url": login.replace(planted.PASSWORD, "hunter2"), "stream": "other"},
        "absent": {"kind": "redis", "url": f"redis://a:hunter2@{NOBODY}", "stream": "third", "timeout": "1s"},
        "kafka": {"kind": "kafka", "bootstrap_servers": NOBODY, "topic": "t", "sasl": sasl, "timeout": "1s"},
        "nats": {
            "kind": "nats",
            "url": f"nats://a:hunter2@{NOBODY}",
            "stream": "S",
            "subject": "s.{type}",
            "timeout": "1s",
        },
        "webhook": {
            "kind": "webhook",
            "url": f"http://{NOBODY}/hook?token=correct-horse",
            "allow_http": True,
            "allow_private_addresses": True,
            "secrets": [WEBHOOK_SECRET],
            "headers": {"Authorization": "Bearer hunter2"},
        },
    }
    with rig.emulator("--entries", "50") as source:
        admin = {"listen": "127.0.0.1:0", "token": ADMIN_TOKEN}
        config = rig.write_config(tmp_path / "c.yaml", source, sinks, state=login, admin=admin)
        said = []
        with rig.BridgeWithAdmin(config, tmp_path / "bridge.log") as bridge:
            url = bridge.admin_url
            for name in sinks:
                if name != "redis":
                    bridge.logged(f'"pipeline":"{name}"')
            for path in ("/", "/api/status", "/metrics", "/readyz", "/livez", "/api/nothing"):
                said.append(answer(url + path))
                said.append(answer(url + path, Authorization=f"Bearer {ADMIN_TOKEN}"))
                said.append(answer(url + path, Host="elsewhere.example"))
            for command in (
                ("check",),
                ("check", "--connect"),
                ("check", "--json"),
                ("offsets", "list"),
                ("tail", "--limit", "2"),
            ):
                done = rig.run_command(*command, "-c", str(config), cwd=tmp_path)
                said += [done.stdout, done.stderr]
            said.append(bridge.log.read_text())
        bad = tmp_path / "bad.yaml"
        bad.write_text(config.read_text().replace("poll_interval", "poll_intervall"))
        done = rig.run_command("check", "-c", str(bad), cwd=tmp_path)
        assert done.returncode == 2
        said += [done.stdout, done.stderr]

    assert [planted.shown_in(text) for text in said] == [[]] * len(said)
    assert "pipeline retrying" in "".join(said)
