use pipe_sweep::pruner::{Asha, Median};
use pipe_sweep::{Direction, Pruner, State, Study, Trial};
use serde_json::{Value, json};

/// The pruner of a case of `pruners.json`.
fn pruner(case: &Value) -> Pruner {
    let number = |key: &str| case[key].as_i64().unwrap();
    match case["type"].as_str().unwrap() {
        "median" => Pruner::Median(Median {
            startup: number("startup") as usize,
            warmup: number("warmup"),
            every: number("every"),
        }),
        _ => {
            let (skip, bootstrap) = (number("skip") as u32, number("bootstrap") as usize);
            Pruner::Asha(Asha { first: case["first"].as_i64(), factor: number("factor"), skip, bootstrap })
        }
    }
}

/// At which report each trial of a case is ended, as `make.py` asks Optuna.
fn decisions(case: &Value, curves: &[Vec<f64>]) -> Vec<Option<usize>> {
    let mut pruner = pruner(case);
    let direction = if case["direction"] == "minimize" { Direction::Minimize } else { Direction::Maximize };
    let together = case["together"].as_u64().unwrap() as usize;
    let mut study = Study::new(0, "s", vec![direction]);
    let mut ended = vec![None; curves.len()];
    for start in (0..curves.len()).step_by(together) {
        let mut working: Vec<usize> = (start..(start + together).min(curves.len())).collect();
        study.trials.extend(working.iter().map(|at| Trial::new(*at as u64, *at as u64, State::Running)));
        for step in 1..=curves[0].len() {
            working.retain(|at| {
                study.trials[*at].reports.insert(step as i64, curves[*at][step - 1]);
                let verdict = pruner.judge(&study, &study.trials[*at]);
                let trial = &mut study.trials[*at];
                trial.system.extend(verdict.notes.into_iter().map(|(key, value)| (key, json!(value))));
                if verdict.prune {
                    (trial.state, ended[*at]) = (State::Pruned, Some(step));
                }
                !verdict.prune
            });
        }
        for at in working {
            study.trials[at].state = State::Complete;
        }
    }
    ended
}

#[test]
fn trials_are_ended_where_optuna_ends_them() {
    let known = super::json("pruners.json");
    let cases = known["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 48);
    for case in cases {
        let curves = known["curves"][case["seed"].to_string()].as_array().unwrap().iter();
        let curve =
            |curve: &Value| curve.as_array().unwrap().iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect();
        let curves: Vec<Vec<f64>> = curves.map(curve).collect();
        let expected: Vec<Option<usize>> =
            case["pruned"].as_array().unwrap().iter().map(|step| step.as_u64().map(|step| step as usize)).collect();
        let mut shown = case.clone();
        shown["pruned"] = Value::Null;
        assert_eq!(decisions(case, &curves), expected, "{shown}");
    }
}
