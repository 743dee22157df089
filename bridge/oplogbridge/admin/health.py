"""When a bridge is ready. Pure: a status and the time in, a verdict out.

Ready means: every pipeline's offset moved, or its source was seen empty, within the limit. Waiting for a lease is
ready, since the standby must not be restarted for standing by. A green light over a dead pipeline is what users of
other bridges complain of.
"""

from __future__ import annotations

from oplogbridge.status import BridgeStatus, PipelineStatus

PROGRESS_SECONDS_MAX = 60.0  # several polls, back-offs and a broker's fail-over fit into it


def not_ready(status: BridgeStatus, now: float) -> dict[str, str]:
    """Why, by pipeline; empty means ready. `now` is monotonic seconds."""
    reasons = {}
    for pipeline in status.pipelines.values():
        reason = _reason(pipeline, now)
        if reason is not None:
            reasons[pipeline.name] = reason
    return reasons


def _reason(pipeline: PipelineStatus, now: float) -> str | None:
    if pipeline.log_trouble is not None:
        return pipeline.log_trouble
    if pipeline.state in ("waiting", "paused", "finished"):
        return None
    if pipeline.state == "stopped":
        return pipeline.error or "stopped"
    if pipeline.progress_at is not None and now - pipeline.progress_at > PROGRESS_SECONDS_MAX:
        since = int(now - pipeline.progress_at)
        return f"no progress for {since} s: {pipeline.error or 'the source or the destination does not answer'}"
    return None
