use pipe_sweep::importance::Untold;
use pipe_sweep::{Direction, Distribution, State, Study, Trial, importances};
use proptest::prelude::*;
use serde_json::{Value, json};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// A study as `tests/optuna/make.py` keeps it.
fn study(case: &Value) -> Study {
    let directions = case["directions"].as_array().unwrap().iter();
    let directions = directions.map(|one| if *one == 2 { Direction::Maximize } else { Direction::Minimize });
    let mut study = Study::new(0, case["name"].as_str().unwrap(), directions.collect());
    for (at, kept) in case["trials"].as_array().unwrap().iter().enumerate() {
        let mut trial = Trial::new(at as u64, at as u64, State::Complete);
        trial.values = kept["values"].as_array().unwrap().iter().map(number).collect();
        for (name, value) in kept["params"].as_object().unwrap() {
            let text = case["distributions"][name][value[1].as_u64().unwrap() as usize].as_str().unwrap();
            trial.distributions.insert(name.clone(), Distribution::from_json(text).unwrap());
            trial.params.insert(name.clone(), number(&value[0]));
        }
        study.trials.push(trial);
    }
    study
}

#[test]
fn importances_are_optunas() {
    let known = super::json("importances.json");
    let mut furthest = 0f64;
    for case in known["cases"].as_array().unwrap() {
        let (own, optunas) = (importances(&study(case)).unwrap(), case["importances"].as_object().unwrap());
        assert_eq!(own.len(), optunas.len(), "{}", case["name"]);
        assert!(own.is_sorted_by(|a, b| a.1 >= b.1), "{own:?}");
        for (name, value) in &own {
            let distance = (value - number(&optunas[name])).abs();
            assert!(distance < 1e-9, "{} {name}: {value}, of Optuna {}", case["name"], optunas[name]);
            furthest = furthest.max(distance);
        }
    }
    eprintln!("at most {furthest:e} from Optuna's");
}

/// A study of two parameters, `a` the value itself and `b` something else.
fn made(direction: Direction, trials: &[(f64, f64)]) -> Study {
    let mut study = Study::new(0, "s", vec![direction]);
    for (number, (a, b)) in trials.iter().enumerate() {
        let mut trial = Trial::new(number as u64, number as u64, State::Complete);
        for (name, value) in [("a", a), ("b", b)] {
            let float = Distribution::Float { low: 0.0, high: 1.0, log: false, step: None };
            trial.distributions.insert(name.into(), float);
            trial.params.insert(name.into(), *value);
        }
        trial.values = vec![*a];
        study.trials.push(trial);
    }
    study
}

#[test]
fn a_study_that_tells_nothing_says_why() {
    let many: Vec<(f64, f64)> = (0..12).map(|at| (f64::from(at) / 12.0, f64::from(at * 5 % 12) / 12.0)).collect();
    let full = made(Direction::Minimize, &many);
    assert_eq!(importances(&full).unwrap()[0].0, "a");
    let mut few = full.clone();
    few.trials[3].state = State::Pruned;
    few.trials[4].values = vec![f64::NAN];
    assert!(importances(&few).is_ok());
    few.trials[5].values = vec![f64::INFINITY];
    assert_eq!(importances(&few), Err(Untold::Few(9)));
    let mut single = full.clone();
    single.trials.iter_mut().for_each(|trial| drop(trial.distributions.shift_remove("b")));
    assert_eq!(importances(&single), Err(Untold::Single));
    let mut members = full.clone();
    members.trials[1].user.insert("pipe:exchange:000002".into(), json!({}));
    assert_eq!(importances(&members), Err(Untold::Exchanged));
    let mut alike = full.clone();
    alike.trials.iter_mut().for_each(|trial| trial.values = vec![1.0]);
    assert_eq!(importances(&alike), Err(Untold::Alike));
    assert_eq!(importances(&made(Direction::Minimize, &[(0.5, 0.5); 12])), Err(Untold::Alike));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn importances_are_shares_and_know_no_order(trials in prop::collection::vec((0.0..1.0f64, 0.0..1.0f64), 10..60), turn in 0usize..60) {
        let all = importances(&made(Direction::Minimize, &trials)).unwrap();
        prop_assert!((all.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(all.iter().all(|(_, share)| *share >= 0.0));
        let mut turned = trials.clone();
        turned.rotate_left(turn % trials.len());
        // Of the mirrored values the largest are the best.
        let mut mirrored = made(Direction::Maximize, &turned);
        mirrored.trials.iter_mut().for_each(|trial| trial.values[0] *= -1.0);
        for (name, share) in importances(&mirrored).unwrap() {
            let same = all.iter().find(|(other, _)| *other == name).unwrap().1;
            prop_assert!((share - same).abs() < 1e-9, "{name}: {share} {same}");
        }
    }
}
