"""Task groups, whose tasks share one job."""
