"""Where task runs happen: threads of the flow's process, or Dask."""

from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from chipmill.settings import Settings


def chosen_runner() -> TaskRunner[Any]:
    """Make the task runner that the settings name.

    Raises:
        RequestError: A setting does not parse.
    """
    settings = Settings.load()
    if settings.task_runner == "threads":
        return ThreadPoolTaskRunner[Any](max_workers=settings.tasks_at_once)
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415  # it takes seconds to import

    if settings.task_runner != "dask":
        return DaskTaskRunner(address=settings.task_runner)
    # Processes of one thread: GDAL's cache and Python's lock are each process's own.
    local = {"n_workers": settings.tasks_at_once, "threads_per_worker": 1}
    return DaskTaskRunner(cluster_kwargs=local)
