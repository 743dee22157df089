"""The Lua that runs inside Redis: one script, one atomic step.

Redis does not roll a script back, so each one looks at everything that could refuse it before it writes anything. What
is left to fail in the middle is a server that dies, and a script is in its log whole or not at all.

Offsets and ids stay text: a Lua number is a double. Every script answers with a list whose first word is a verdict
(`refusals.refusal` knows them).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

FORMAT_VERSION = "1"  # of the hash


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str


def _script(*parts: str) -> Script:
    text = "\n".join(parts)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# The top of a stream is the last id that it ever gave out: XDEL and XTRIM leave it. A consumer may make the empty
# stream itself (XGROUP CREATE … MKSTREAM), so 0-0 counts as none.
_TOP_OF = """
local function top_of(stream)
  local kind = redis.call('TYPE', stream).ok
  if kind == 'none' then return '0-0' end
  if kind ~= 'stream' then return nil, kind end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
local function below(id, offset)
  local number = string.match(id, '^%d+')
  return #number < #offset or (#number == #offset and number < offset)
end
"""

# KEYS: hash, and the stream where the template names just one.   ARGV: version, token, owner
OPEN = _script(
    _TOP_OF,
    """
local kept = redis.call('HMGET', KEYS[1], 'v', 'owner', 'offset', 'source', 'destination')
if kept[1] and kept[1] ~= ARGV[1] then return {'version', kept[1]} end
if kept[3] and kept[2] ~= ARGV[3] then return {'owner', kept[2]} end
if KEYS[2] then
  local top, kind = top_of(KEYS[2])
  if not top then return {'type', KEYS[2], kind} end
  local ours = redis.call('HGET', KEYS[1], 'top:' .. KEYS[2])
  if top ~= '0-0' and top ~= ours then
    if not kept[3] then return {'unknown', KEYS[2], top} end
    return {'foreign', KEYS[2], top, ours or 'none'}
  end
end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'token', ARGV[2])
return {'ok', kept[3] or '', kept[4] or '', kept[5] or ''}
""",
)

# KEYS: hash, streams.   ARGV: token, offset before ('' for none), offset after, owner, source, destination,
# entries to keep ('' for all), the number of events of each stream; then id (a sequence, or the place of an
# event that is none of the log's), key, type, event of each.
WRITE = _script(
    _TOP_OF,
    """
local call = redis.call
local hash = KEYS[1]
local kept = call('HMGET', hash, 'token', 'offset', 'adopted')
if not kept[1] then return {'gone'} end
if kept[1] ~= ARGV[1] then return {'fenced'} end
if (kept[2] or '') ~= ARGV[2] then return {'offset', kept[2] or 'none'} end
for i = 2, #KEYS do
  local stream = KEYS[i]
  local top, kind = top_of(stream)
  if not top then return {'type', stream, kind} end
  if top ~= '0-0' then
    local ours = call('HGET', hash, 'top:' .. stream)
    if ours and top ~= ours then return {'foreign', stream, top, ours} end
    if not ours and not (kept[3] and below(top, kept[3])) then return {'foreign', stream, top, 'none'} end
  end
end
local at = 7 + #KEYS
for i = 2, #KEYS do
  local stream = KEYS[i]
  local behind = at + 4 * tonumber(ARGV[6 + i])
  while at < behind do
    call('XADD', stream, ARGV[at], 'key', ARGV[at + 1], 'type', ARGV[at + 2], 'event', ARGV[at + 3])
    at = at + 4
  end
  local last = ARGV[at - 4]
  call('HSET', hash, 'top:' .. stream, string.find(last, '-', 1, true) and last or last .. '-0')
end
call('HSET', hash, 'offset', ARGV[3], 'owner', ARGV[4], 'source', ARGV[5], 'destination', ARGV[6])
if ARGV[7] ~= '' then
  for i = 2, #KEYS do call('XTRIM', KEYS[i], 'MAXLEN', '~', ARGV[7]) end
end
return {'ok'}
""",
)

# KEYS: hash, every stream that we know of.   ARGV: version, token, '1' to take the hash whoever has it, offset, owner,
# source, destination
MOVE = _script(
    _TOP_OF,
    """
local hash = KEYS[1]
if ARGV[3] ~= '1' then
  local token = redis.call('HGET', hash, 'token')
  if not token then return {'gone'} end
  if token ~= ARGV[2] then return {'fenced'} end
end
local tops = {}
for i = 2, #KEYS do
  local top, kind = top_of(KEYS[i])
  if not top then return {'type', KEYS[i], kind} end
  if top ~= '0-0' then
    if not below(top, ARGV[4]) then return {'back', KEYS[i], top} end
    tops[#tops + 1] = 'top:' .. KEYS[i]
    tops[#tops + 1] = top
  end
end
redis.call('HSET', hash, 'v', ARGV[1], 'token', ARGV[2], 'offset', ARGV[4], 'adopted', ARGV[4], 'owner', ARGV[5],
  'source', ARGV[6], 'destination', ARGV[7])
for i = 1, #tops, 2 do redis.call('HSET', hash, tops[i], tops[i + 1]) end
return {'ok'}
""",
)
