"""Entries to files. Nothing here knows Airflow."""
