"""Contensis over HTTP. Nothing here knows of Airflow."""
