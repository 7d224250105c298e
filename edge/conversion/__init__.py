"""The line from a source to an artifact, and what wraps it: plan, cells, scheduler, worker, cluster."""
