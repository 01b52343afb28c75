# The nearest to what is tested here: Airflow 3.3.2 on Python 3.12.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12

# Makes include.engine importable for DAGs, plugins, triggers and tasks alike.
ENV PYTHONPATH=/usr/local/airflow
