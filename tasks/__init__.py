"""The tasks: names, retries and limits around library steps."""

import logging

# With PREFECT_LOGGING_EXTRA_LOGGERS=chipmill Prefect sends the library's records to the run's log,
# but leaves the level at the root's, WARNING.
logging.getLogger("chipmill").setLevel(logging.INFO)
