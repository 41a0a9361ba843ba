"""What Optuna does, for the tests of crates/sweep.

    python3 crates/sweep/tests/optuna/make.py

Needs optuna 5.0 and numpy. Writes beside itself:
- tpe.json: of each of five functions the median of the best value after 100 trials over 100 seeds of TPESampler, and its 95 % bootstrap interval
- pruners.json: what MedianPruner and SuccessiveHalvingPruner say at each report of stored learning curves, run one report of each trial in turn
- journal.log: a journal that Optuna wrote, and journal.json: what it holds
- importances.json: of studies with all kinds of parameters what get_param_importances says; a parameter of a trial is its inner value and
  the place of its distribution among those of its name

`make.py NAME...` writes only these, such as `importances`.
"""

import json
import math
import pathlib
import random
import sys

import numpy
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

HERE = pathlib.Path(__file__).parent
SEEDS, TRIALS = 100, 100


def sphere(trial):
    return sum(trial.suggest_float(f"x{i}", -5, 5) ** 2 for i in range(3))


def branin(trial):
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def rates(trial):
    """A learning rate, a weight decay and a width, as one searches for them."""
    lr, decay = trial.suggest_float("lr", 1e-5, 1.0, log=True), trial.suggest_float("decay", 1e-6, 1e-1, log=True)
    width = trial.suggest_int("width", 8, 512, log=True)
    return (math.log10(lr) + 2.3) ** 2 + 0.3 * (math.log10(decay) + 4) ** 2 + 0.2 * (math.log2(width) - 7) ** 2


def mixed(trial):
    """Choices, steps, integers."""
    kind = trial.suggest_categorical("kind", list("abcdefgh"))
    depth = trial.suggest_int("depth", 1, 60)
    rate = trial.suggest_float("rate", 0.0, 0.9, step=0.01)
    return dict(zip("abcdefgh", [1.0, 0.7, 3.0, 2.0, 0.0, 0.3, 0.4, 0.9]))[kind] + 0.01 * (depth - 13) ** 2 + 4 * (rate - 0.35) ** 2


def conditional(trial):
    """A parameter that is there for one choice only; the larger is better."""
    if trial.suggest_categorical("kind", ["sgd", "adam"]) == "sgd":
        momentum = trial.suggest_float("momentum", 0.0, 0.99)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        return -(math.log10(lr) + 1) ** 2 - 2 * (momentum - 0.9) ** 2
    lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    return -0.3 - (math.log10(lr) + 3) ** 2


FUNCTIONS = [(sphere, "minimize"), (branin, "minimize"), (rates, "minimize"), (mixed, "minimize"), (conditional, "maximize")]


def tpe(functions=FUNCTIONS):
    cases = {}
    for function, direction in functions:
        best = []
        for seed in range(SEEDS):
            study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=seed))
            study.optimize(function, n_trials=TRIALS)
            best.append(study.best_value)
        rng = numpy.random.default_rng(0)
        medians = numpy.median(rng.choice(best, (10000, SEEDS)), axis=1)
        low, high = numpy.percentile(medians, [2.5, 97.5])
        cases[function.__name__] = {"median": float(numpy.median(best)), "low": float(low), "high": float(high)}
    return {"optuna": optuna.__version__, "seeds": SEEDS, "trials": TRIALS, "functions": cases}


def curves(count, length, seed):
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        end, speed = rng.uniform(0.1, 1.0), rng.uniform(0.02, 0.5)
        curve = [round(end + (2 - end) * math.exp(-speed * step) + rng.gauss(0, 0.05), 4) for step in range(1, length + 1)]
        made.append(curve)
    made[7][5] = math.nan
    return made


def decisions(pruner, direction, made, together):
    """Asks the pruner at each report; `together` trials are at work at a time. Trials are told apart by number."""
    study = optuna.create_study(direction=direction, pruner=pruner)
    pruned = {}
    for start in range(0, len(made), together):
        working = {study.ask(): curve for curve in made[start : start + together]}
        for step in range(len(made[0])):
            for trial, curve in list(working.items()):
                trial.report(curve[step], step + 1)
                if trial.should_prune():
                    pruned[trial.number] = step + 1
                    study.tell(trial, state=TrialState.PRUNED)
                    del working[trial]
        for trial, curve in working.items():
            study.tell(trial, curve[-1])
    return [pruned.get(number) for number in range(len(made))]


def pruners():
    cases = []
    for seed in (1, 2):
        made = curves(40, 81, seed)
        for direction in ("minimize", "maximize"):
            for together in (1, 4):
                add = lambda settings, pruner: cases.append(
                    {"seed": seed, "direction": direction, "together": together, **settings, "pruned": decisions(pruner, direction, made, together)}
                )
                for startup, warmup, every in ((5, 0, 1), (2, 10, 7)):
                    settings = {"type": "median", "startup": startup, "warmup": warmup, "every": every}
                    add(settings, optuna.pruners.MedianPruner(startup, warmup, every))
                for first, factor, skip, bootstrap in ((1, 4, 0, 0), (3, 2, 1, 0), (1, 3, 0, 2), (None, 3, 0, 0)):
                    settings = {"type": "asha", "first": first, "factor": factor, "skip": skip, "bootstrap": bootstrap}
                    pruner = optuna.pruners.SuccessiveHalvingPruner(
                        min_resource=first or "auto", reduction_factor=factor, min_early_stopping_rate=skip, bootstrap_count=bootstrap
                    )
                    add(settings, pruner)
    made = {str(seed): curves(40, 81, seed) for seed in (1, 2)}
    return {"optuna": optuna.__version__, "curves": made, "cases": cases}


def journal():
    path = HERE / "journal.log"
    path.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(storage=storage, study_name="gone")
    optuna.delete_study(storage=storage, study_name="gone")
    study = optuna.create_study(storage=storage, study_name="first", direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.set_user_attr("by", "optuna")

    def objective(trial):
        x, n = trial.suggest_float("x", 1e-3, 1.0, log=True), trial.suggest_int("n", 1, 9, step=2)
        kind = trial.suggest_categorical("kind", ["a", 2, 0.5, True, None])
        trial.report(math.nan, 0)
        trial.report(x, 1)
        trial.set_user_attr("odd", 'NaN "text" \u2713')
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 4:
            raise ValueError("fails")
        trial.set_constraint("size", n - 5)
        return x * n + (kind == "a")

    study.optimize(objective, n_trials=12, catch=ValueError)
    study.enqueue_trial({"x": 0.5, "kind": "a"})
    study.ask(), study.ask()
    optuna.create_study(storage=storage, study_name="second", directions=["minimize", "maximize"])
    plain = lambda value: None if value is None else [str(one) for one in value]
    trials = [
        {
            "state": int(trial.state), "values": plain(trial.values), "params": trial.params,
            "reports": {str(step): str(value) for step, value in trial.intermediate_values.items()},
            "user": trial.user_attrs, "violation": sum(max(0, one) for one in trial.constraints.values()),
        }
        for trial in study.trials
    ]
    (HERE / "journal.json").write_text(json.dumps({"best": study.best_trial.number, "trials": trials}, indent=1) + "\n")


def kinds(trial):
    """One parameter of each kind, of which some matter little."""
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", 0, 1)
    lr, width = trial.suggest_float("lr", 1e-5, 1.0, log=True), trial.suggest_int("width", 8, 512, log=True)
    rate, coarse = trial.suggest_float("rate", 0.0, 0.98, step=0.01), trial.suggest_float("coarse", 0.1, 0.5, step=0.1)
    depth, few = trial.suggest_int("depth", 1, 99), trial.suggest_int("few", 2, 11, step=3)
    kind, only = trial.suggest_categorical("kind", ["a", 2, 0.5, True, None]), trial.suggest_categorical("only", ["a"])
    value = 0.1 * (x - 1) ** 2 + 0.01 * y + 0.3 * (math.log10(lr) + 2) ** 2 + 0.05 * (math.log2(width) - 6) ** 2
    value += 2 * (rate - 0.35) ** 2 + coarse + 3e-4 * (depth - 40) ** 2 + 0.02 * few + (kind == 2) + 0.5 * (kind == "a")
    return value + (only != "a")


def regimes(trial):
    """Parameters that are there for some trials only, or with other ranges; one that a single trial has. The larger is better."""
    value = conditional(trial)
    if trial.params["kind"] == "sgd":
        nesterov = trial.suggest_categorical("nesterov", [False, True])
        decay = trial.suggest_float("decay", 1e-6, 1e-2, log=True)
        value += 0.3 * nesterov
    else:
        decay = trial.suggest_float("decay", 1e-4, 1e-1, log=True)
    if trial.number == 17:
        trial.suggest_float("once", 0, 1)
    return value - 0.1 * (math.log10(decay) + 3) ** 2


def front(trial):
    x, y, z = trial.suggest_float("x", -4, 4), trial.suggest_float("y", -4, 4), trial.suggest_int("z", 0, 9)
    return x**2 + y**2 + 0.1 * z, -((x - 2) ** 2) - y**2


def steps(trial):
    """Whole values, so that of a front that is far too large many add as much."""
    a, b, c = (trial.suggest_int(name, 0, 9) for name in "abc")
    return a + b // 5, 9 - a + b // 5, c // 9


def line(trial):
    return steps(trial)[:2]


def ties(trial):
    """Few values, and some that are infinite."""
    a, b, _ = trial.suggest_float("a", 0, 1), trial.suggest_int("b", 1, 4), trial.suggest_int("c", 3, 3)
    return math.inf if a > 0.9 else -math.inf if a < 0.03 else math.floor(3 * a) + (b > 2)


def importances():
    """Values are rounded to six digits before Optuna sees them again, so that the file is small."""
    random, tpe = optuna.samplers.RandomSampler(seed=1), optuna.samplers.TPESampler(seed=1)
    cases = []
    for function, directions, sampler, trials in [
        (kinds, ["minimize"], random, 80), (rates, ["minimize"], tpe, 80), (regimes, ["maximize"], random, 80),
        (front, ["minimize", "maximize"], random, 70), (steps, ["minimize"] * 3, random, 60), (line, ["minimize"] * 2, random, 60), (ties, ["minimize"], random, 40),
        (sphere, ["maximize"], random, 10),
    ]:
        first = optuna.create_study(directions=directions, sampler=sampler)
        first.optimize(function, n_trials=trials)
        study, known, kept = optuna.create_study(directions=directions), {}, []
        for trial in first.trials:
            own, params = {}, {}
            for name, distribution in trial.distributions.items():
                inner = distribution.to_internal_repr(trial.params[name])
                inner = inner if isinstance(distribution, optuna.distributions.CategoricalDistribution) else float(f"{inner:.6g}")
                text = optuna.distributions.distribution_to_json(distribution)
                if text not in known.setdefault(name, []):
                    known[name].append(text)
                own[name] = [inner, known[name].index(text)]
                params[name] = distribution.to_external_repr(inner)
            values = [float(f"{value:.6g}") for value in trial.values]
            study.add_trial(optuna.trial.create_trial(values=values, params=params, distributions=trial.distributions))
            kept.append({"values": [value if math.isfinite(value) else str(value) for value in values], "params": own})
        cases.append({
            "name": function.__name__, "directions": [int(one) for one in study.directions], "distributions": known, "trials": kept,
            "importances": optuna.importance.get_param_importances(study),
        })
    return {"optuna": optuna.__version__, "cases": cases}


def main():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    wanted = sys.argv[1:] or ["journal", "pruners", "tpe", "importances"]
    if "journal" in wanted:
        journal()
    layouts = ("pruners", pruners, {}), ("tpe", tpe, {"indent": 1}), ("importances", importances, {"separators": (",", ":")})
    for name, made, layout in layouts:
        if name in wanted:
            (HERE / f"{name}.json").write_text(json.dumps(made(), **layout) + "\n")


if __name__ == "__main__":
    main()
