"""Which Redis server to talk to: one that a URL names, the master that sentinels name, the owner of a cluster's slot.

The state store and the Redis sink share this and nothing else: what a URL means, and how its server is found. What is
said to the server afterwards is their own. `address` is pure and needs no extra; `nodes` needs the extra `redis`.
"""
