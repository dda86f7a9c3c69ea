"""Contensis over HTTP. Nothing here knows Airflow."""
