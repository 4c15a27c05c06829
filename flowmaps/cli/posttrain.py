"""`flowmaps posttrain`."""

from __future__ import annotations

from ..evaluate.distances import Estimate
from ..experiments.posttraining import posttrain
from ..experiments.posttraining_methods import function_of
from ..experiments.reward_change import RewardChange
from ..experiments.run_folder import is_first
from ..experiments.sample_files import usual_file
from .arguments import keywords, method_arguments
from .options_posttrain import Posttrain
from .own_method import method_named, reward_named
from .tables import number, print_table, say


def run_posttrain(options: Posttrain) -> None:
    """Post-train, and print the change of the reward and the next commands."""
    method = method_named(options.method)
    given = keywords(options, "method", "method_args", "reward")
    given["reward"] = reward_named(options.reward)
    given["method_args"] = method_arguments(function_of(method), options.method_args)
    run = posttrain(**given, method=method, say=say)
    if not run.steps:
        say(f"The run in {run.folder} is already complete.")
    if run.change is not None and is_first():
        print_change(run.change, options.reward)
    out = run.folder
    say(f"Next:  flowmaps sample {out} -o {usual_file(run.config)}    flowmaps evaluate {out}    flowmaps report {out}")


def print_change(change: RewardChange, reward: str) -> None:
    """Print the mean reward and the diversity before and after, beside the tilted law."""
    steps = " and ".join(str(count) for count in dict.fromkeys(change.steps))
    title = f"{reward}, {change.n} samples of {steps} step{'' if steps == '1' else 's'}"
    columns = ["", "before", "after", "tilted law, by weights"]
    rewards = [mean(change.before), mean(change.after), "-" if change.tilted is None else mean(change.tilted)]
    distances = (change.diversity_before, change.diversity_after, change.diversity_tilted)
    rows = [["mean reward", *rewards], ["distance of two samples", *map(number, distances)]]
    print_table(title, columns, rows)
    print(f"effective share of the samples before: {change.effective:.1%}")
    print(f"largest E r - beta KL of any law (beta log E e^(r/beta)): {mean(change.bound)}")


def mean(found: Estimate) -> str:
    """A mean with its standard error."""
    return f"{number(found.value)} +- {found.stderr:.2g}"
