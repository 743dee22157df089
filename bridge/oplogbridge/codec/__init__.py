"""From entries to events. Pure: no await, no clock, no log; the same received bytes give the same event bytes."""
