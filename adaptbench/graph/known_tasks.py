"""All tasks that benchmarks and lm-eval can score, by name."""

from adaptbench import registry
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import stock_tasks
from adaptbench.tasks import Task


class Tasks(dict[str, Task]):
    """Tasks by name; one that no benchmark has is looked for in lm-eval."""

    def __missing__(self, name: str) -> Task:
        self[name] = stock_tasks.task(name)
        return self[name]

    def or_unknown(self, name: str, metric: str) -> Task:
        """The task, or what can be said of one that nothing here knows."""
        try:
            return self[name]
        except AdaptbenchError:
            return Task(name, metric, name, metric)


def known_tasks() -> Tasks:
    """Every benchmark's tasks by name, and lm-eval's as they are asked for."""
    return Tasks(
        (task.name, task)
        for track in registry.tracks()
        for module in registry.discover(f"benchmarks.{track}").values()
        for task in module.TASKS
    )
