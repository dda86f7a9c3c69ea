"""Operators that move entries from Contensis to another system."""
