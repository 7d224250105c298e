"""A file and its manifest: provenance, atomic files, the cache, what differs between two files."""
