"""Where to when: order, liveness, memory plan, waits."""
