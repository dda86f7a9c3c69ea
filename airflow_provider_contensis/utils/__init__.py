"""Small helpers that know neither HTTP nor Airflow. Private."""
