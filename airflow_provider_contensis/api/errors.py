"""The old home of the exceptions, kept so that DAGs which import from here go on working."""

from airflow_provider_contensis.exceptions import *  # noqa: F403 - the same names
