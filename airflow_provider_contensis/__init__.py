"""Apache Airflow provider for the Contensis CMS."""

__version__ = "0.1.0"
