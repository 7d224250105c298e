"""The file format: flatbuffers, operator versions, metadata, attachments, and the rules of delegates."""
