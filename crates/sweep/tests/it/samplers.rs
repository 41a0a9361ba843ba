use std::f64::consts::PI;

use pipe_sweep::sampler::points;
use pipe_sweep::{Direction, Distribution, Parameter, Sampler, Space, State, Study, Trial, Values};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parameter(name: &str, distribution: Distribution) -> Parameter {
    Parameter { name: name.into(), distribution, when: Vec::new() }
}

fn float(low: f64, high: f64, log: bool) -> Distribution {
    Distribution::Float { low, high, log, step: None }
}

fn choices(all: &[&str]) -> Distribution {
    Distribution::Categorical { choices: all.iter().map(|one| Value::from(*one)).collect() }
}

/// Ends a study's next trial with a value.
fn end(study: &mut Study, space: &Space, params: Values, values: Vec<f64>) {
    let number = study.trials.len() as u64;
    let mut trial = Trial::new(number, number, State::Complete);
    trial.distributions =
        params.keys().map(|name| (name.clone(), space.get(name).unwrap().distribution.clone())).collect();
    (trial.params, trial.values) = (params, values);
    study.trials.push(trial);
}

/// The best value of a study of 100 trials.
fn best(space: &Space, direction: Direction, seed: u64, trials: u64, function: fn(&Values) -> f64) -> f64 {
    let mut study = Study::new(0, "s", vec![direction]);
    for number in 0..trials {
        let params = Sampler::Tpe.suggest(&study, space, seed, number).unwrap();
        let value = function(&params);
        end(&mut study, space, params, vec![value]);
    }
    study.best()[0].values[0]
}

type Function = (&'static str, Direction, Vec<Parameter>, fn(&Values) -> f64);

/// As in `tests/optuna/make.py`.
fn functions() -> Vec<Function> {
    let sphere = (0..3).map(|i| parameter(&format!("x{i}"), float(-5.0, 5.0, false))).collect();
    let branin = vec![parameter("x", float(-5.0, 10.0, false)), parameter("y", float(0.0, 15.0, false))];
    let rates = vec![
        parameter("lr", float(1e-5, 1.0, true)),
        parameter("decay", float(1e-6, 1e-1, true)),
        parameter("width", Distribution::Int { low: 8, high: 512, log: true, step: 1 }),
    ];
    let mixed = vec![
        parameter("kind", choices(&["a", "b", "c", "d", "e", "f", "g", "h"])),
        parameter("depth", Distribution::Int { low: 1, high: 60, log: false, step: 1 }),
        parameter("rate", Distribution::Float { low: 0.0, high: 0.9, log: false, step: Some(0.01) }),
    ];
    let mut momentum = parameter("momentum", float(0.0, 0.99, false));
    momentum.when = vec![("kind".into(), vec![json!("sgd")])];
    let conditional =
        vec![parameter("kind", choices(&["sgd", "adam"])), momentum, parameter("lr", float(1e-4, 1.0, true))];
    vec![
        ("sphere", Direction::Minimize, sphere, |v| v.values().map(|x| x * x).sum()),
        ("branin", Direction::Minimize, branin, |v| {
            let (x, y) = (v["x"], v["y"]);
            let a = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
            a * a + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
        }),
        ("rates", Direction::Minimize, rates, |v| {
            let square = |x: f64| x * x;
            square(v["lr"].log10() + 2.3)
                + 0.3 * square(v["decay"].log10() + 4.0)
                + 0.2 * square(v["width"].log2() - 7.0)
        }),
        ("mixed", Direction::Minimize, mixed, |v| {
            let kind = [1.0, 0.7, 3.0, 2.0, 0.0, 0.3, 0.4, 0.9][v["kind"] as usize];
            kind + 0.01 * (v["depth"] - 13.0).powi(2) + 4.0 * (v["rate"] - 0.35).powi(2)
        }),
        ("conditional", Direction::Maximize, conditional, |v| match v["kind"] {
            0.0 => -(v["lr"].log10() + 1.0).powi(2) - 2.0 * (v["momentum"] - 0.9).powi(2),
            _ => -0.3 - (v["lr"].log10() + 3.0).powi(2),
        }),
    ]
}

#[test]
fn tpe_comes_as_far_as_optunas() {
    let known = super::json("tpe.json");
    let (seeds, trials) = (known["seeds"].as_u64().unwrap(), known["trials"].as_u64().unwrap());
    for (name, direction, parameters, function) in functions() {
        let space = Space { parameters };
        let mut found: Vec<f64> = (0..seeds).map(|seed| best(&space, direction, seed, trials, function)).collect();
        found.sort_by(f64::total_cmp);
        let half = found.len() / 2;
        let median = f64::midpoint(found[half - 1], found[half]);
        let of = |key: &str| known["functions"][name][key].as_f64().unwrap();
        eprintln!("{name}: {median:.6}; Optuna {:.6}, {:.6} to {:.6}", of("median"), of("low"), of("high"));
        // What a grid of values comes to is often the very end of the interval.
        let room = 1e-12;
        assert!((of("low") - room..=of("high") + room).contains(&median), "{name}: {median}");
    }
}

#[test]
fn tpe_follows_several_objectives_to_their_front() {
    let space = Space {
        parameters: vec![parameter("x", float(-10.0, 10.0, false)), parameter("y", float(-10.0, 10.0, false))],
    };
    let front = |sampler: Sampler| {
        let mut study = Study::new(0, "s", vec![Direction::Minimize, Direction::Minimize]);
        for number in 0..80 {
            let params = sampler.suggest(&study, &space, 3, number).unwrap();
            let (x, y) = (params["x"], params["y"]);
            end(&mut study, &space, params, vec![x * x + y * y, (x - 2.0).powi(2) + y * y]);
        }
        // The front lies between the two minima, where `y` is 0.
        study.trials[40..].iter().map(|trial| trial.params["y"].abs()).sum::<f64>() / 40.0
    };
    let (tpe, random) = (front(Sampler::Tpe), front(Sampler::Random));
    assert!(tpe < random / 2.0, "{tpe} {random}");
}

#[test]
fn tpe_keeps_away_from_what_breaks_constraints() {
    let space = Space { parameters: vec![parameter("x", float(0.0, 1.0, false))] };
    let mut study = Study::new(0, "s", vec![Direction::Minimize]);
    for number in 0..60 {
        let params = Sampler::Tpe.suggest(&study, &space, 1, number).unwrap();
        let x = params["x"];
        end(&mut study, &space, params, vec![x]);
        study.trials[number as usize].system.insert("constraints:size max".into(), json!(0.5 - x));
    }
    let best = study.best()[0];
    assert!(best.params["x"] >= 0.5 && best.params["x"] < 0.6, "{best:?}");
    // They crowd where the constraint begins: by chance it would be a quarter.
    let distance = study.trials[30..].iter().map(|trial| (trial.params["x"] - 0.5).abs()).sum::<f64>() / 30.0;
    assert!(distance < 0.15, "{distance}");
}

#[test]
fn a_grid_has_each_point_once_and_a_parameter_only_where_it_counts() {
    let mut momentum = parameter("momentum", Distribution::Float { low: 0.0, high: 0.9, log: false, step: Some(0.45) });
    momentum.when = vec![("kind".into(), vec![json!("sgd")])];
    let depth = parameter("depth", Distribution::Int { low: 1, high: 6, log: false, step: 2 });
    let space = Space { parameters: vec![parameter("kind", choices(&["sgd", "adam"])), momentum, depth] };
    let all = points(&space).unwrap();
    assert_eq!(all.len(), 3 * 3 + 3);
    let mut study = Study::new(0, "s", vec![Direction::Minimize]);
    for point in &all {
        let params = Sampler::Grid.suggest(&study, &space, 0, study.trials.len() as u64).unwrap();
        assert_eq!(&params, point);
        end(&mut study, &space, params, vec![0.0]);
    }
    assert_eq!(Sampler::Grid.suggest(&study, &space, 0, 12), None);
    // One that failed is tried again, when all others are done.
    study.trials[4].state = State::Failed;
    assert_eq!(Sampler::Grid.suggest(&study, &space, 0, 12).as_ref(), Some(&all[4]));
}

fn any_distribution() -> impl Strategy<Value = Distribution> {
    prop_oneof![
        (-1e3..1e3f64, 0.0..1e3f64).prop_map(|(low, more)| float(low, low + more, false)),
        (1e-6..1.0f64, 1.0..1e6f64).prop_map(|(low, times)| float(low, low * times, true)),
        (-50..50i32, 0.01..3.0f64, 0..40i32).prop_map(|(low, step, count)| {
            let low = f64::from(low);
            Distribution::Float { low, high: low + step * f64::from(count), log: false, step: Some(step) }
        }),
        (-50..50i64, 0..100i64, 1..7i64).prop_map(|(low, more, step)| Distribution::Int {
            low,
            high: low + more / step * step,
            log: false,
            step
        }),
        (1..50i64, 0..1000i64).prop_map(|(low, more)| Distribution::Int { low, high: low + more, log: true, step: 1 }),
        (1..6usize).prop_map(|count| Distribution::Categorical { choices: (0..count).map(|at| json!(at)).collect() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_is_drawn_lies_in_its_space(one in any_distribution(), other in any_distribution(), seed in 0u64..1000) {
        let space = Space { parameters: vec![parameter("a", one), parameter("b", other)] };
        for sampler in [Sampler::Random, Sampler::Tpe] {
            let mut study = Study::new(0, "s", vec![Direction::Minimize]);
            for number in 0..16 {
                let params = sampler.suggest(&study, &space, seed, number).unwrap();
                prop_assert_eq!(&params, &sampler.suggest(&study, &space, seed, number).unwrap());
                for (name, value) in &params {
                    let distribution = &space.get(name).unwrap().distribution;
                    let back = distribution.inner(&distribution.outer(*value));
                    prop_assert_eq!(back, Some(*value), "{:?}", distribution);
                    if let Some(all) = distribution.all().filter(|all| !matches!(distribution, Distribution::Int { log: true, .. }) && all.len() < 100) {
                        prop_assert!(all.contains(value), "{} in {:?}", value, all);
                    }
                    prop_assert_eq!(&Distribution::from_json(&distribution.to_json()).unwrap(), distribution);
                }
                let sum = params.values().sum();
                end(&mut study, &space, params, vec![sum]);
            }
        }
    }
}
