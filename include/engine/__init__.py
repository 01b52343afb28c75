"""What Mainstay does, without Airflow: back up, restore and drill a pipeline, and know how it is.

The arrows inside go one way and import-linter holds them (see ``pyproject.toml``):
``cli → wiring → verbs → systems → sandbox → store | health → inventory → contracts → model → errors``.
"""
