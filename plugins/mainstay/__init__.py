"""Mainstay in Airflow: what its tasks run, wait on and show.  What is done is in ``include.engine``; this side is thin."""
