"""Finds tasks of benchmarks and of lm-eval by name."""

from adaptbench import registry
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import stock_tasks
from adaptbench.tasks import Task


class Tasks(dict[str, Task]):
    """Tasks by name; a task that no benchmark has is looked up in lm-eval."""

    def __missing__(self, name: str) -> Task:
        self[name] = stock_tasks.task(name)
        return self[name]

    def or_unknown(self, name: str, metric: str) -> Task:
        """Return the task, or what its name and metric tell of one that is not known here, as in old results."""
        try:
            return self[name]
        except AdaptbenchError:
            return Task(name, metric, name, metric, general=name.startswith("general"))


def known_tasks() -> Tasks:
    """Return the tasks of all benchmarks by name; those of lm-eval are added when they are looked up."""
    return Tasks(
        (task.name, task)
        for track in registry.tracks()
        for module in registry.discover(f"benchmarks.{track}").values()
        for task in module.TASKS
    )
