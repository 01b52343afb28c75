"""Load tests as a method: schedules, distributions, gates, searches, comparisons, and the generator that keeps a schedule.

It knows no system.  A system says how one operation is sent (:mod:`~include.engine.loading.contracts`), and everything that
makes a measurement honest is here, once: operations are due at fixed times whatever the target does, latency counts from the
time at which an operation was due, what was never answered counts as a latency of at least the time that it waited, and a test
in which the rate was not reached proves nothing.
"""
