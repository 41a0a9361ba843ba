//! Checkpoints come back bit for bit, and damaged ones are named.

use std::cell::RefCell;
use std::rc::Rc;

use std::fs;

use serde_json::json;
use tch::{Device, Tensor};

use super::files::read_state;
use super::*;
use crate::testing::TestRun;
use pipe_core::{Clock, EventContext, Handler, Instance, Model, ModelOutput, Shared, Stateful};
use pipe_data::Batch;

/// A model that is nothing but its state.
struct Net(State);

impl Stateful for Net {
    fn state(&self) -> Result<State> {
        Ok(self.0.shallow_clone())
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.0 = state.shallow_clone();
        Ok(())
    }
}

impl Model for Net {
    fn set_training(&mut self, _training: bool) {}

    fn forward(&mut self, _batch: &Batch) -> Result<ModelOutput> {
        Ok(ModelOutput::default())
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// A handler without state of its own.
struct Idle;

impl Stateful for Idle {}

impl Handler for Idle {
    fn call(&mut self, _ctx: &EventContext<'_>) -> Result<()> {
        Ok(())
    }
}

fn run_with(tensors: &[(&str, Tensor)]) -> (TestRun, Shared<Net>) {
    let test = TestRun::new();
    let tensors = tensors.iter().map(|(name, t)| ((*name).to_owned(), t.shallow_clone())).collect();
    let values = json!({ "seen": 0.1 + 0.2 }).as_object().cloned().unwrap();
    let net = Rc::new(RefCell::new(Net(State { values, tensors })));
    test.add("model.net", Instance::Model(net.clone()));
    test.run.clock.set(Clock { step: 7, epoch: 2 });
    (test, net)
}

fn one() -> (TestRun, Shared<Net>) {
    run_with(&[("w", Tensor::from_slice(&[1.0f32, 2.0]))])
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

#[test]
fn everything_comes_back_bit_for_bit() {
    let odd = [f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY, 0.1];
    let tensors = [
        ("strided", Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]).tr()),
        ("odd", Tensor::from_slice(&odd)),
        ("half", Tensor::from_slice(&odd).to_kind(tch::Kind::BFloat16)),
        ("double", Tensor::from_slice(&[std::f64::consts::PI, 1e-310])),
        ("counter", Tensor::from(i64::MAX)),
        ("empty", Tensor::zeros([0, 4], (tch::Kind::Float, Device::Cpu))),
    ];
    let (test, _) = run_with(&tensors);
    let path = save(&test.graph, "step_000007").unwrap();
    assert_eq!(test.run.last_checkpoint(), Some(path.clone()));
    let next = Vec::<f32>::try_from(Tensor::rand([5], (tch::Kind::Float, Device::Cpu))).unwrap();

    let (other, net) = run_with(&[]);
    other.run.clock.set(Clock::default());
    assert_eq!(load(&other.graph, &path, &[]).unwrap().warnings, Vec::<String>::new());
    assert_eq!(other.run.clock.get(), Clock { step: 7, epoch: 2 });
    let state = &net.borrow().0;
    for (name, tensor) in &tensors {
        let read = &state.tensors[*name];
        assert_eq!((read.kind(), read.size()), (tensor.kind(), tensor.size()), "{name}");
        assert_eq!(bytes(read), bytes(tensor), "{name}");
    }
    assert_eq!(state.values["seen"].as_f64().unwrap().to_bits(), (0.1f64 + 0.2).to_bits());
    let again = Vec::<f32>::try_from(Tensor::rand([5], (tch::Kind::Float, Device::Cpu))).unwrap();
    assert_eq!(again, next, "the random generator continues where it was");
}

#[test]
fn the_files_say_what_they_are() {
    let (test, _) = one();
    let path = save(&test.graph, "a").unwrap();
    assert_eq!(names(&path), ["complete.json", "model.net.safetensors", "state.json", "state.safetensors"]);
    let weights = pipe_vision::weights::read(&path.join("model.net.safetensors")).unwrap();
    assert_eq!((weights.metadata["format"].as_str(), weights.metadata["step"].as_str()), ("pt", "7"));
    assert_eq!(read_state(&path).unwrap().pipe, env!("CARGO_PKG_VERSION"));
}

#[test]
fn damage_is_named_and_changes_nothing() {
    let (test, net) = one();
    let path = save(&test.graph, "a").unwrap();
    for file in ["model.net.safetensors", "state.safetensors", "state.json", "complete.json"] {
        let sound = fs::read(path.join(file)).unwrap();
        let mut flipped = sound.clone();
        // One bit; where a digit is, of the file of sums.
        let at =
            sound.iter().rposition(u8::is_ascii_digit).filter(|_| file == "complete.json").unwrap_or(sound.len() / 3);
        flipped[at] ^= 1;
        for damaged in [&sound[..sound.len() / 2], &[], &flipped] {
            fs::write(path.join(file), damaged).unwrap();
            net.borrow_mut().0.tensors["w"] = Tensor::from(5.0);
            let error = format!("{:#}", load(&test.graph, &path, &[]).unwrap_err());
            assert!(error.contains(file) || error.contains("damaged"), "{error}");
            assert_eq!(net.borrow().0.tensors["w"].double_value(&[]), 5.0, "nothing was restored");
        }
        fs::remove_file(path.join(file)).unwrap();
        let error = format!("{:#}", load(&test.graph, &path, &[]).unwrap_err());
        assert!(error.contains(file), "{error}");
        assert_eq!(newest(test.run.folder.path()), None);
        fs::write(path.join(file), sound).unwrap();
    }
    load(&test.graph, &path, &[]).unwrap();
    let newer = fs::read_to_string(path.join("complete.json")).unwrap().replacen("2", "9", 1);
    fs::write(path.join("complete.json"), newer).unwrap();
    assert!(format!("{:#}", load(&test.graph, &path, &[]).unwrap_err()).contains("newer pipe (format 9)"));
}

#[test]
fn a_damaged_newest_one_is_passed_over() {
    let (test, _) = one();
    let older = save(&test.graph, "step_000007").unwrap();
    test.run.clock.set(Clock { step: 8, epoch: 2 });
    let newer = save(&test.graph, "step_000008").unwrap();
    assert_eq!(newest(test.run.folder.path()), Some(newer.clone()));
    let mut bytes = fs::read(newer.join("model.net.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 0x10;
    fs::write(newer.join("model.net.safetensors"), bytes).unwrap();
    assert_eq!(newest(test.run.folder.path()), Some(older.clone()));
    // One that was about to be replaced when the process was killed.
    fs::rename(&older, test.run.folder.checkpoints().join(".step_000007.old4294967295")).unwrap();
    assert_eq!(newest(test.run.folder.path()), Some(older));
}

#[test]
fn a_failed_save_leaves_what_was_there() {
    let (test, net) = one();
    let path = save(&test.graph, "a").unwrap();
    let before = fs::read(path.join("state.json")).unwrap();
    // A type that cannot be stored fails in the middle of writing, as a full disk does.
    net.borrow_mut().0.tensors["w"] = Tensor::from_slice(&[1f32]).to_kind(tch::Kind::ComplexFloat);
    let error = format!("{:#}", save(&test.graph, "a").unwrap_err());
    assert!(error.contains("earlier checkpoints are unchanged"), "{error}");
    assert_eq!(names(&test.run.folder.checkpoints()), ["a"]);
    assert_eq!(fs::read(path.join("state.json")).unwrap(), before);
    assert_eq!(newest(test.run.folder.path()), Some(path));
}

#[test]
fn a_checkpoint_of_the_same_name_is_replaced_and_leftovers_go() {
    let (test, _) = one();
    save(&test.graph, "a").unwrap();
    let folder = test.run.folder.checkpoints();
    // No process has the largest number.
    fs::create_dir(folder.join(".b.tmp4294967295")).unwrap();
    fs::create_dir(folder.join(".mine")).unwrap();
    test.run.clock.set(Clock { step: 8, epoch: 2 });
    let path = save(&test.graph, "a").unwrap();
    assert_eq!(step_of(&path), Some(8));
    assert_eq!(names(&folder), [".mine", "a"]);
    remove(&path).unwrap();
    assert_eq!(names(&folder), [".mine"]);
    assert!(remove(&path).unwrap_err().to_string().contains("cannot remove checkpoint"));
}

#[test]
fn nodes_in_one_place_only_are_said() {
    let (test, _) = one();
    let extra = State::of(&json!({ "x": 1 })).unwrap();
    test.add("handler.o", Instance::handler(Idle));
    let extra = [("handler.o".parse().unwrap(), extra)];
    let path = Checkpoints::save(&*test.graph, "a", &extra, Afterwards::default()).unwrap();
    test.graph.written(&path).unwrap();
    let (other, _) = one();
    other.graph.nodes.borrow_mut().clear();
    other.add("model.other", Instance::model(Net(State::default())));
    let warnings = load(&other.graph, &path, &[]).unwrap().warnings.join("\n");
    assert!(warnings.contains("model.other is not in the checkpoint"), "{warnings}");
    assert!(warnings.contains("handler.o is in the checkpoint but not in the pipeline"), "{warnings}");
}

#[test]
fn training_that_goes_on_does_not_change_what_is_being_written() {
    let weight = Tensor::zeros([1 << 20], (tch::Kind::Float, Device::Cpu));
    let (test, _) = run_with(&[("w", weight.shallow_clone())]);
    let path = Checkpoints::save(&*test.graph, "a", &[], Afterwards::default()).unwrap();
    let _ = weight.shallow_clone().fill_(1.0);
    test.run.clock.set(Clock { step: 8, epoch: 2 });
    test.graph.written(&path).unwrap();
    assert_eq!(step_of(&path), Some(7));
    let written = pipe_vision::weights::read(&path.join("model.net.safetensors")).unwrap();
    assert_eq!(f64::try_from(written.tensors["w"].sum(tch::Kind::Double)).unwrap(), 0.0);
}

#[test]
fn what_comes_after_waits_until_the_checkpoint_is_complete() {
    let (test, _) = one();
    let first = save(&test.graph, "first").unwrap();
    let note = test.run.folder.checkpoints().join("note");
    let afterwards = || Afterwards { note: Some((note.clone(), b"new".to_vec())), remove: vec![first.clone()] };
    // The second cannot be written: its name is a file's.
    fs::write(test.run.folder.checkpoints().join("second"), "").unwrap();
    let second = Checkpoints::save(&*test.graph, "second/below", &[], afterwards()).unwrap();
    let error = format!("{:#}", test.graph.written(&second).unwrap_err());
    assert!(error.contains("was not written; earlier checkpoints are unchanged"), "{error}");
    assert!(test.graph.written(&second).is_ok(), "it is said once");
    assert_eq!((first.exists(), note.exists()), (true, false));
    assert_eq!(test.run.last_checkpoint(), Some(first.clone()));
    let third = Checkpoints::save(&*test.graph, "third", &[], afterwards()).unwrap();
    test.graph.written(&third).unwrap();
    assert_eq!((first.exists(), fs::read(&note).unwrap()), (false, b"new".to_vec()));
}
