"""One page on a folder of artifacts: what passed, what to ship on which target and why, and every figure behind it."""
