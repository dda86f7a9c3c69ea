"""Exports under trouble, by the thousand: random content, queries, faults and edits, and an oracle."""
