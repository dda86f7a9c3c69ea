"""Entries as rows: the columns of a content type, and the values of an entry in them."""
