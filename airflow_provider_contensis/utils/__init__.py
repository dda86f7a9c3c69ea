"""Text and JSON: helpers of every other module."""
