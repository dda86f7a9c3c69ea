"""The chaos suite for copies: histories of edits, each followed by a feed and judged by an oracle."""
