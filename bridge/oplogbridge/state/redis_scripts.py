"""Every compare-and-act on Redis: one Lua script each, so that it happens in one step on the server.

A lease is one string with a TTL, so that it cannot exist without one: three lines, the token, the instance as JSON
(no newline inside) and the holder as JSON. Numbers stay text throughout: Lua's are doubles. No script writes before the
last of its checks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha1: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha1", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


# KEYS format; ARGV our version. Answers the version kept.
OPEN = Script("""
local version = redis.call('GET', KEYS[1])
if not version then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
return version
""")

# KEYS lease, epoch, format; ARGV nonce, unanswered nonces, instance, reclaims, holder, ttl in ms, our version.
# The unanswered nonces are of requests of the same store whose answer never came: what they took is the store's own.
ACQUIRE = Script("""
local version = redis.call('GET', KEYS[3])
if version and tonumber(version) > tonumber(ARGV[7]) then
  return {'newer', version}
end
local lease = redis.call('GET', KEYS[1])
if lease then
  local nonce, instance = string.match(lease, '^%d+%-(%x+)\\n([^\\n]*)\\n')
  if not nonce then
    return redis.error_reply('WRONGTYPE the lease is not one of ours')
  end
  if not (string.find(ARGV[2], nonce, 1, true) or (ARGV[4] == '1' and instance == ARGV[3])) then
    return {'held', ''}
  end
end
if not version then
  redis.call('SET', KEYS[3], ARGV[7])
end
local token = string.format('%.0f', redis.call('INCR', KEYS[2])) .. '-' .. ARGV[1]
redis.call('SET', KEYS[1], token .. '\\n' .. ARGV[3] .. '\\n' .. ARGV[5], 'PX', ARGV[6])
return {'taken', token}
""")

_FENCE = """
local lease = redis.call('GET', KEYS[1])
if not lease or string.match(lease, '^[^\\n]*') ~= ARGV[1] then
  return {'fenced', ''}
end
"""

# KEYS lease; ARGV token, ttl in ms.
RENEW = Script(_FENCE + "redis.call('PEXPIRE', KEYS[1], ARGV[2])\nreturn {'renewed', ''}\n")

# KEYS lease; ARGV token.
RELEASE = Script(_FENCE + "redis.call('DEL', KEYS[1])\nreturn {'released', ''}\n")

# KEYS lease, offset; ARGV token.
LOAD = Script(_FENCE + "return {'kept', redis.call('GET', KEYS[2]) or ''}\n")

# KEYS lease, offset; ARGV token, the text to replace ('' for none), the new text.
SAVE = Script(
    _FENCE
    + """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then
  return {'replaced', ''}
end
redis.call('SET', KEYS[2], ARGV[3])
return {'saved', ''}
"""
)

# KEYS lease, notes; ARGV token ('' for no lease), how many are expected, then three for each that is expected and for
# each that changes: its key, '1' for a text or '0' for none, the text.
NOTE = Script("""
if ARGV[1] ~= '' then
  local lease = redis.call('GET', KEYS[1])
  if not lease or string.match(lease, '^[^\\n]*') ~= ARGV[1] then
    return {'fenced', ''}
  end
end
local first = 3 + 3 * tonumber(ARGV[2])
for at = 3, first - 1, 3 do
  local kept = redis.call('HGET', KEYS[2], ARGV[at])
  if ARGV[at + 1] == '1' and kept ~= ARGV[at + 2] or ARGV[at + 1] == '0' and kept then
    return {'other', ''}
  end
end
for at = first, #ARGV, 3 do
  if ARGV[at + 1] == '1' then
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 2])
  else
    redis.call('HDEL', KEYS[2], ARGV[at])
  end
end
return {'noted', ''}
""")

# KEYS audit; ARGV the record, how many are kept.
RECORD = Script("""
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return {'recorded', ''}
""")
