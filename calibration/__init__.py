"""Calibration image sets: read them, check them, sample from them.

`open_image_set` reads a folder, a zip or the built-in set; `python -m calibration.inspect DIR` checks one.
"""
