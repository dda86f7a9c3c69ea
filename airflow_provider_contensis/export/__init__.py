"""Entries to files. Nothing here knows of Airflow."""
