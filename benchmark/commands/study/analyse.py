"""The commands `featvis study analyse` and `featvis study power`."""

from __future__ import annotations

from pathlib import Path

from benchmark.arguments import check_out, command_line
from featvis.errors import UserError


def analyse(answers: str, study: str | None = None, out: str = "runs/analysis", rules: str | None = None) -> int:
    """Say what a study's answers show: proportions, a mixed model, agreement, figure 5, a page, tables, records.

    Args:
        answers: a database of `featvis study serve`, a JSON file of participations, a folder of such, or a CSV with the
            columns participant, condition, network, unit and correct.
        study: folder of the study, as `featvis study make` has made it; not needed for a CSV.
        out: folder of everything.
        rules: whose answers are left out, over the study's: catch_under=0.5,total_over=1200,one_side=false; none
            leaves nobody out.
    """
    from benchmark.study import config, trials

    path = Path(answers)
    if not path.exists():
        raise UserError(f"there is no file or folder {answers}; name a database, JSON, a folder of JSON, or a CSV")
    check_out(Path(out))
    found = trials.read(Path(study)) if study is not None else None
    said = config.rules(rules, found.exclude if found is not None else {})

    from benchmark.study.analysing import reading, run

    given = reading.read(path, found)
    reading.tell(given)
    result = run.analyse(given, said)
    observers = None
    if found is not None and study is not None:
        from benchmark.study.making import observers as watching

        observers = watching.means(watching.read(Path(study)), found)
    title = f"The study {found.study}" if found is not None else f"The answers {path.stem}"
    line = command_line("study analyse", {"rules": rules}, path.name)
    page = run.write(result, title, Path(out), line, found, observers)
    told = run.report.Table("", "", "", result.proportions, ("correct", "low", "high")).shown()
    print(told.to_string(index=False))
    for rule, who in result.excluded.by_rule.items():
        if who:
            print(f"left out  {len(who)}: {rule}")
    if result.why:
        print(f"no model  {result.why}")
    print(f"page      {page}")
    return 0


def power(
    difference: float = 0.1,
    baseline: float = 0.6,
    trials: int = 40,
    power: float = 0.8,
    people: float = 0.5,
    units: float = 0.6,
    lapse: float = 0.05,
    tests: int = 6,
    simulations: int = 400,
    most: int = 1000,
    seed: int = 0,
) -> int:
    """Say how many participants a difference between two conditions needs, from simulated studies.

    Args:
        difference: between the proportions correct, .1 is ten points.
        baseline: proportion correct of the worse condition; 60 % is what people get without any visualization
            (Zimmermann et al. 2021).
        trials: that everyone answers.
        power: chance of finding it.
        people: deviation of the participants' random intercepts, in logits.
        units: of the units'.
        lapse: share of answers given without looking.
        tests: comparisons that share the level .05; four conditions have six.
        simulations: studies at each number of participants.
        most: participants of a condition that are tried.
        seed: of all random numbers.
    """
    for name, value in (("difference", difference), ("baseline", baseline), ("power", power)):
        if not 0 < value < 1:
            raise UserError(f"--{name} must lie between 0 and 1, not {value:g}")
    for name, value in (("trials", trials), ("tests", tests), ("simulations", simulations), ("most", most)):
        if value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    if people < 0 or units < 0 or not 0 <= lapse < 1:
        raise UserError("--people and --units must not be negative, and --lapse must lie between 0 and 1")
    from benchmark.study.analysing import simulate

    count, tried = simulate.needed(
        power, most, baseline=baseline, difference=difference, trials=trials, people=people, units=units, lapse=lapse,
        tests=tests, simulations=simulations, seed=seed,
    )  # fmt: skip
    for n in sorted(tried):
        print(f"{n:5} participants a condition: {tried[n]:.0%}")
    ends = f"{baseline:.0%} against {baseline + difference:.0%}, {trials} trials, {tests} comparisons"
    if count is None:
        print(f"{ends}: more than {most} participants a condition")
        return 1
    print(f"{ends}: {count} participants a condition")
    return 0
