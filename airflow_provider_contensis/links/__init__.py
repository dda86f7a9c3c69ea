"""Links from tasks in Airflow's UI."""
