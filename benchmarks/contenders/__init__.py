"""A program for each contender, run by the interpreter of its own environment."""
