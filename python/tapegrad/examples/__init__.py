"""Programs to read and to run: each is `python -m tapegrad.examples.NAME`."""
