"""The file format: flatbuffers, operator versions, metadata, what is attached to a file, what delegates take."""
