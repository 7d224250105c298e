"""What is in a file of ours or anyone's, and what delegates take of it."""
