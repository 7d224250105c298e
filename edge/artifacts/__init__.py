"""A file and its manifest: provenance, atomic files, the cache, the difference between two files."""
