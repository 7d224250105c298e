"""How far two models' answers are apart: arrays in, verdict out."""
