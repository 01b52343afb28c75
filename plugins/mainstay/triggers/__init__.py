"""What Airflow waits on: each polls an engine off the event loop and fires once."""
