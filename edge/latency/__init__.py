"""Measuring latency: the protocol, the result rows, the plots."""
