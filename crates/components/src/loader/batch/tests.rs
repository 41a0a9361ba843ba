//! Batches in order, whatever the number of workers, and samples that fail.

use super::*;
use pipe_data::{BatchField, Extent, Field, Sample, SampleRng, fields};
use rand::Rng;
use serde_json::json;

/// Numbered samples; those in `bad` cannot be read.
#[derive(Default)]
struct Numbers {
    len: usize,
    bad: Vec<usize>,
    panics: Option<usize>,
}

impl Dataset for Numbers {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Sample> {
        ensure!(!self.bad.contains(&index), "number {index} is bad");
        assert!(self.panics != Some(index), "number {index} panics");
        let sample = Sample::new().with(fields::IMAGE_ID, Field::Integer(index as i64));
        Ok(sample.with(fields::SOURCE, Field::Text(format!("number {index}"))))
    }

    fn extent(&self, index: usize) -> Option<Extent> {
        let width = if index.is_multiple_of(3) { 4 } else { 17 };
        Some(Extent { height: 10, width, objects: 0 })
    }
}

/// Adds a random number to each sample.
struct Noise;

impl Transform for Noise {
    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        Ok(sample.with("noise", Field::Scalar(rng.random())))
    }

    fn apply_batch(&self, samples: Vec<Sample>, rng: &mut SampleRng) -> Result<Vec<Sample>> {
        let noise: f64 = rng.random();
        Ok(samples.into_iter().map(|s| s.with("batch_noise", Field::Scalar(noise))).collect())
    }
}

/// Numbers with classes.
struct Classes(Numbers, Vec<Vec<i64>>);

impl Dataset for Classes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        self.0.get(index)
    }

    fn extent(&self, index: usize) -> Option<Extent> {
        self.0.extent(index)
    }

    fn classes(&self, index: usize) -> Option<Vec<i64>> {
        self.1.get(index).cloned()
    }
}

/// The first numbers are of class 0, the last two of class 1, the very last of class 2 too.
fn imbalanced(len: usize) -> Classes {
    let class = |index| match len - index {
        1 => vec![1, 2, 2],
        2 => vec![1],
        _ => vec![0],
    };
    Classes(numbers(len), (0..len).map(class).collect())
}

fn loader(dataset: impl Dataset + 'static, options: serde_json::Value) -> BatchLoader {
    try_loader(dataset, options).unwrap()
}

fn try_loader(dataset: impl Dataset + 'static, options: serde_json::Value) -> Result<BatchLoader> {
    let mut config = json!({ "dataset": "dataset.numbers" });
    config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let config: BatchConfig = serde_json::from_value(config).unwrap();
    BatchLoader::new(&config, Arc::new(dataset), Some(Arc::new(Noise)), 7, tch::Device::Cpu, "loader.test".into())
}

/// Every value of every batch from here to the end of the epoch.
fn rest(loader: &mut BatchLoader) -> Vec<Vec<f64>> {
    std::iter::from_fn(|| loader.next_batch().unwrap()).map(|batch| values(&batch)).collect()
}

fn values(batch: &Batch) -> Vec<f64> {
    let mut all = Vec::new();
    for (_, field) in batch.iter() {
        if let BatchField::Stacked(tensor) = field {
            all.extend(Vec::<f64>::try_from(tensor.to_kind(tch::Kind::Double)).unwrap());
        }
    }
    all
}

fn numbers(len: usize) -> Numbers {
    Numbers { len, ..Numbers::default() }
}

#[test]
fn any_number_of_workers_makes_the_same_batches() {
    let epochs = |workers: usize| {
        let mut loader = loader(numbers(23), json!({ "batch_size": 4, "shuffle": true, "workers": workers }));
        assert_eq!(loader.epoch_length(), Some(6));
        let mut epoch = |n| {
            loader.start_epoch(n, 0).unwrap();
            rest(&mut loader)
        };
        [epoch(0), epoch(1), epoch(0)]
    };
    let alone = epochs(0);
    assert_ne!(alone[0], alone[1]);
    assert_eq!(alone[0], alone[2]);
    assert_eq!(alone[0].len(), 6);
    assert_eq!(epochs(1), alone);
    assert_eq!(epochs(4), alone);
}

#[test]
fn an_epoch_can_be_entered_at_any_batch() {
    for workers in [0, 3] {
        let mut loader = loader(numbers(20), json!({ "batch_size": 3, "shuffle": true, "workers": workers }));
        loader.start_epoch(5, 0).unwrap();
        let whole = rest(&mut loader);
        for first in 0..=whole.len() {
            loader.start_epoch(5, first).unwrap();
            assert_eq!(rest(&mut loader), whole[first..]);
        }
    }
}

#[test]
fn an_error_comes_out_at_its_batch_and_names_the_sample() {
    for workers in [0, 2] {
        let bad = Numbers { len: 8, bad: vec![5], panics: None };
        let mut loader = loader(bad, json!({ "batch_size": 2, "workers": workers }));
        loader.start_epoch(0, 0).unwrap();
        assert!(loader.next_batch().unwrap().is_some());
        assert!(loader.next_batch().unwrap().is_some());
        let error = format!("{:#}", loader.next_batch().unwrap_err());
        assert_eq!(error, "loader.test: sample 5 of dataset.numbers: number 5 is bad");
    }
}

#[test]
fn a_panic_is_an_error_of_its_sample() {
    for workers in [0, 2] {
        let bad = Numbers { len: 4, bad: vec![], panics: Some(1) };
        let mut loader = loader(bad, json!({ "batch_size": 2, "workers": workers }));
        loader.start_epoch(0, 0).unwrap();
        let error = format!("{:#}", loader.next_batch().unwrap_err());
        assert!(error.contains("sample 1 of dataset.numbers") && error.contains("number 1 panics"), "{error}");
    }
}

#[test]
fn skipped_samples_are_left_out_and_resuming_stays_exact() {
    for workers in [0, 2] {
        let dataset = || Numbers { len: 8, bad: vec![1, 2, 3], panics: None };
        let options = json!({ "batch_size": 2, "workers": workers, "on_error": "skip" });
        let mut first = loader(dataset(), options.clone());
        first.start_epoch(0, 0).unwrap();
        assert_eq!(first.next_batch().unwrap().unwrap().size, 1);
        assert_eq!(first.next_batch().unwrap().unwrap().sources(), ["number 4", "number 5"]);
        let state = first.state().unwrap();
        let mut second = loader(dataset(), options);
        second.load_state(&state).unwrap();
        second.start_epoch(0, 2).unwrap();
        assert_eq!(rest(&mut second), rest(&mut first));
        assert_eq!(first.skipped.count, 0, "reported at the end of the epoch");
    }
}

#[test]
fn the_last_batch_is_made_once_more_under_the_rule_it_was_made_by() {
    for workers in [0, 2] {
        let dataset = || Numbers { len: 20, bad: vec![1, 2, 3], panics: None };
        let options = |size: usize| json!({ "batch_size": size, "workers": workers, "on_error": "skip" });
        let mut first = loader(dataset(), options(2));
        first.start_epoch(3, 0).unwrap();
        // 0; 2 and 3 are bad, so the second batch is empty; 4, 5.
        let batches: Vec<Batch> = (0..2).map(|_| first.next_batch().unwrap().unwrap()).collect();
        let mut second = loader(dataset(), options(4));
        second.load_state(&first.state().unwrap()).unwrap();
        assert_eq!(values(&second.last_batch().unwrap()), values(&batches[1]));
        second.start_epoch(3, 2).unwrap();
        let rest: Vec<Vec<String>> =
            std::iter::from_fn(|| second.next_batch().unwrap()).map(|batch| batch.sources()).collect();
        assert_eq!(rest.concat(), (6..20).map(|i| format!("number {i}")).collect::<Vec<_>>(), "each once");
        assert_eq!(rest[0].len(), 4);
    }
}

#[test]
fn an_epoch_without_any_readable_sample_is_an_error() {
    let bad = Numbers { len: 2, bad: vec![0, 1], panics: None };
    let mut loader = loader(bad, json!({ "on_error": "skip", "workers": 1 }));
    loader.start_epoch(0, 0).unwrap();
    let error = loader.next_batch().unwrap_err().to_string();
    assert!(error.contains("no sample of the epoch could be loaded") && error.contains("number 0 is bad"), "{error}");
}

#[test]
fn alike_shapes_share_batches() {
    let options = json!({ "batch_size": 4, "shuffle": true, "group_by_aspect_ratio": 3, "workers": 0 });
    let mut loader = loader(numbers(30), options);
    loader.start_epoch(0, 0).unwrap();
    let mut batches = 0;
    while let Some(batch) = loader.next_batch().unwrap() {
        let ids = Vec::<i64>::try_from(batch.stacked(fields::IMAGE_ID).unwrap()).unwrap();
        assert!(ids.iter().all(|id| (id % 3 == 0) == (ids[0] % 3 == 0)), "{ids:?}");
        batches += 1;
    }
    assert_eq!(Some(batches), loader.epoch_length());
}

#[test]
fn a_loader_without_batches_is_refused() {
    let error = |dataset, options| try_loader(dataset, options).err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(error(numbers(0), json!({})), "dataset.numbers has no samples");
    let few = error(numbers(3), json!({ "batch_size": 4, "drop_last": true }));
    assert!(few.contains("too few for one full batch of 4"), "{few}");
}

/// The samples of an epoch, batch by batch.
fn ids(loader: &mut BatchLoader, epoch: usize) -> Vec<Vec<i64>> {
    loader.start_epoch(epoch, 0).unwrap();
    let ids = |batch: Batch| Vec::try_from(batch.stacked(fields::IMAGE_ID).unwrap()).unwrap();
    std::iter::from_fn(|| loader.next_batch().unwrap()).map(ids).collect()
}

fn samplers() -> [serde_json::Value; 3] {
    [
        json!({ "type": "weighted" }),
        json!({ "type": "weighted", "class_weights": [1, 2, 0.5], "num_samples": 31 }),
        json!({ "type": "repeat_factor", "threshold": 0.6 }),
    ]
}

#[test]
fn sampled_epochs_depend_on_seed_and_epoch_alone_and_go_on_at_any_batch() {
    for sampler in samplers() {
        for grouped in [None, Some(3)] {
            let options = |workers: usize| {
                json!({
                    "batch_size": 4, "workers": workers, "sampler": sampler, "group_by_aspect_ratio": grouped,
                })
            };
            let epoch = |workers: usize, epoch: usize| {
                let mut loader = loader(imbalanced(20), options(workers));
                loader.start_epoch(epoch, 0).unwrap();
                let batches = rest(&mut loader);
                assert_eq!(loader.epoch_length(), Some(batches.len()), "{sampler}");
                batches
            };
            let alone = epoch(0, 3);
            assert_eq!(epoch(3, 3), alone);
            assert_ne!(epoch(0, 4), alone);
            // What comes twice is augmented anew: full batches have four numbers, then the noise of each.
            let full = alone.iter().filter(|batch| batch.len() >= 8 && batch.len() % 4 == 0);
            let mut noise: Vec<u64> = full.flat_map(|batch| batch[4..8].iter().map(|v| v.to_bits())).collect();
            let all = noise.len();
            noise.sort_unstable();
            noise.dedup();
            assert!(all >= 16 && noise.len() == all);

            let mut first = loader(imbalanced(20), options(2));
            first.start_epoch(3, 0).unwrap();
            let two = [first.next_batch().unwrap().unwrap(), first.next_batch().unwrap().unwrap()];
            let mut second = loader(imbalanced(20), options(0));
            second.load_state(&first.state().unwrap()).unwrap();
            assert_eq!(values(&second.last_batch().unwrap()), values(&two[1]));
            second.start_epoch(3, 2).unwrap();
            assert_eq!(rest(&mut second), alone[2..]);
        }
    }
}

#[test]
fn what_is_foretold_of_sampled_epochs_comes() {
    for sampler in samplers() {
        let mut loader = loader(imbalanced(20), json!({ "batch_size": 4, "sampler": sampler, "workers": 0 }));
        let outlook = loader.outlook(None).unwrap();
        assert!(!outlook.repeats());
        for pass in 0..3 {
            let widths: Vec<Vec<usize>> =
                outlook.batches(pass).iter().map(|batch| batch.iter().map(|extent| extent.width).collect()).collect();
            let ids = ids(&mut loader, pass);
            let width = |id: &i64| if id % 3 == 0 { 4 } else { 17 };
            let come: Vec<Vec<usize>> = ids.iter().map(|batch| batch.iter().map(width).collect()).collect();
            assert_eq!(widths, come, "{sampler}");
        }
    }
}

#[test]
fn samplers_balance_classes() {
    let count = |sampler: serde_json::Value, epochs: usize| {
        let mut loader = loader(imbalanced(20), json!({ "batch_size": 5, "sampler": sampler, "workers": 0 }));
        let all = (0..epochs).flat_map(|epoch| ids(&mut loader, epoch)).flatten();
        let mut counts = [0.0; 3];
        all.for_each(|id| counts[(id - 17).max(0) as usize] += 1.0 / epochs as f64);
        counts
    };
    // 18 numbers of weight 1 / 0.9, one of 1 / 0.1, one of 1 / 0.05 (its rarest class): 20 draws among 50 parts.
    let counts_of = count(json!({ "type": "weighted" }), 300);
    for (count, expected) in counts_of.iter().zip([8.0, 4.0, 8.0]) {
        assert!((count - expected).abs() < 0.6, "{counts_of:?}");
    }
    // sqrt(0.6 / 0.1) = 2.449 and sqrt(0.6 / 0.05) = 3.464; epochs are of 20 + 1 + 2 samples, one fraction of which is left out.
    let counts_of = count(json!({ "type": "repeat_factor", "threshold": 0.6 }), 300);
    assert_eq!(counts_of[0].round(), 18.0);
    assert!((2.0..=3.0).contains(&counts_of[1]) && (3.0..=4.0).contains(&counts_of[2]), "{counts_of:?}");
}

#[test]
fn samplers_that_cannot_work_are_refused() {
    let error = |dataset: Classes, sampler| {
        let options = json!({ "sampler": sampler });
        format!("{:#}", try_loader(dataset, options).err().unwrap_or_else(|| anyhow!("nothing")))
    };
    let unknown = error(Classes(numbers(3), vec![]), json!({ "type": "repeat_factor", "threshold": 0.1 }));
    assert!(unknown.contains("dataset.numbers does not know the classes of its samples"), "{unknown}");
    let few = error(imbalanced(5), json!({ "type": "weighted", "class_weights": [1, 1] }));
    assert!(few.contains("sampler.class_weights has 2 weights: class 2 has no weight"), "{few}");
    let zero = error(imbalanced(5), json!({ "type": "weighted", "class_weights": [0, 0, 0] }));
    assert!(zero.contains("all weights are 0"), "{zero}");
}

#[test]
fn with_another_sampler_an_epoch_begins_again() {
    let options = |threshold: f64| json!({ "batch_size": 4, "workers": 0, "sampler": { "type": "repeat_factor", "threshold": threshold } });
    let mut first = loader(imbalanced(20), options(0.6));
    first.start_epoch(3, 0).unwrap();
    first.next_batch().unwrap();
    let mut second = loader(imbalanced(20), options(0.9));
    second.load_state(&first.state().unwrap()).unwrap();
    let error = second.last_batch().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("another sampler chose the batch"), "{error}");
    second.start_epoch(3, 1).unwrap();
    assert_eq!(Some(rest(&mut second).len()), second.epoch_length());
}

/// The factors of `tests/parity/sampler/make.py`.
#[test]
fn repeat_factors_are_detectron2s() {
    let expected = pipe_run::testing::parity("sampler/expected.json");
    let list = |value: &serde_json::Value| -> Vec<f64> { pipe_run::testing::numbers(value) };
    let images = expected["images"].as_array().unwrap();
    let images: Vec<Vec<i64>> =
        images.iter().map(|image| list(image).into_iter().map(|class| class as i64).collect()).collect();
    for (threshold, factors) in expected["factors"].as_object().unwrap() {
        let own = pipe_data::sampling::repeat_factors(&images, threshold.parse().unwrap());
        pipe_run::testing::assert_close(threshold, &own, &list(factors), 1e-12);
    }
}
