"""Apps: which framework a project is of, where its assets go, which runtime it ships, and a class for a model in its language."""
