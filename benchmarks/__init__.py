"""The benchmark: this provider beside the alternatives (`make bench`)."""
