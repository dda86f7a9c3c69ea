"""Where files go: this machine, or an object store."""
