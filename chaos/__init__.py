"""The chaos suite: thousands of exports under random faults and edits, each judged by an oracle."""
