//! `model.torchscript`: a network from a TorchScript file.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use pipe_native::ScriptModule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::classification::{IGNORED, count_classes};
use super::ground_truth::check_classes;
use super::loss::{ClassLoss, ClassificationLoss};
use super::segmentation::IGNORED as IGNORED_PIXEL;
use super::weights;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Problems, State, Stateful};
use pipe_core::{Model, ModelOutput};
use pipe_data::batch::to_float;
use pipe_data::{Batch, BatchField, fields};
use pipe_vision::nn::{LoadOptions, ParameterStore};

/// A network from a TorchScript file, exported in Python with `torch.jit.script(module).save(…)` or `torch.jit.trace`.
///
/// Its parameters and buffers are trained, saved and restored under the module's own names. A scripted module switches
/// between training and evaluation; a traced one keeps the mode in which it was traced, and a frozen one
/// (`torch.jit.freeze`) has no parameters and can only be evaluated. The file contains code that is executed: only use files that you
/// trust.
///
/// Tasks. `classification`: the module takes images `[N, C, H, W]` and returns logits `[N, classes]`. `segmentation`: it returns
/// logits `[N, classes, H, W]`, and pixels whose label is 255 do not count in the loss. `own`: the module takes the fields `inputs`
/// and returns a dictionary of tensors; scalars whose key starts with `loss` are its losses, and the keys in `outputs` are available
/// to metrics.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TorchScriptConfig {
    /// The TorchScript file.
    pub file: PathValue,
    /// The task of the module, which determines its loss.
    #[serde(default)]
    pub task: Task,
    /// If the module returns several tensors, the one with the logits: a dictionary key (`out`) or a tuple index
    /// (`0`).
    #[serde(default)]
    pub logits: Option<String>,
    /// The loss of `classification` and `segmentation`.
    #[serde(default)]
    pub loss: ClassificationLoss,
    /// The batch fields that a module of task `own` takes, in order; each must be a single tensor.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// The outputs of a module of task `own` that are available to metrics.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// A `.pth` or `.safetensors` file that replaces the file's own weights; all names must match.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub weights: Option<PathValue>,
    /// Whether an edit of `weights` in a run at work also takes the state of the optimizer (momentum, averages of gradients) and of
    /// averages of this model from the checkpoint that the weights lie in. It means nothing at the beginning of a run.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub optimizer_state: bool,
}

/// The task of a TorchScript module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One class per image.
    #[default]
    Classification,
    /// One class per pixel.
    Segmentation,
    /// The module's own losses.
    Own,
}

impl Config for TorchScriptConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "torchscript";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "torchscript"
file = "net.pt"
task = "classification"
"#;

    fn facts(&self) -> Facts {
        // The file holds weights, and whatever else its author put there.
        Facts { unknown: true, weights: Some("file"), ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        match self.task {
            Task::Classification => Contract::default().needs([fields::IMAGE, fields::LABEL]).adds([fields::LOGITS]),
            Task::Segmentation => {
                Contract::default().needs([fields::IMAGE, fields::SEGMENTATION]).adds([fields::SEGMENTATION_LOGITS])
            }
            Task::Own => {
                let (inputs, outputs) = (self.inputs.iter(), self.outputs.iter());
                Contract::default().needs(inputs.map(String::as_str)).adds(outputs.map(String::as_str))
            }
        }
    }

    fn check(&self, problems: &mut Problems) {
        if self.task == Task::Own {
            if self.inputs.is_empty() {
                problems.at(
                    "task",
                    "the module would be called without arguments",
                    "name fields: inputs = [\"image\"]",
                );
            }
            if self.logits.is_some() {
                problems.at("logits", "`logits` is for the other tasks", "name it in `outputs`");
            }
        } else {
            for (key, list) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
                if !list.is_empty() {
                    problems.at(key, format!("`{key}` is for `task = \"own\"`"), "remove it, or set the task");
                }
            }
        }
    }
}

impl Component for TorchScriptConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let file = PathBuf::from(self.file.as_str());
        if file.exists() {
            // libtorch would wait for a pipe, and read a device without end.
            pipe_vocab::files::open(&file).with_context(|| format!("cannot read the module {}", file.display()))?;
        }
        let mut module = ScriptModule::load(&file)?;
        module.to(ctx.device)?;
        let store = store_of(&module, ctx.device)?;
        // Other weights take the place of these; the module's own file is needed all the same, for its code.
        if let Some(path) = self.weights.as_ref().filter(|_| ctx.initial_weights) {
            let (weights, _) = weights::read(path, ctx.node)?;
            store.load_state_dict(&weights.tensors, &LoadOptions::default())?;
        }
        let (trainable, all) = store.parameter_count();
        let (trainable, all) = (pipe_vocab::units::grouped(trainable), pipe_vocab::units::grouped(all));
        tracing::info!("{}: {trainable} of {all} parameters of {} are trainable", ctx.node, self.file.as_str());
        let loss = self.loss.build(None, ctx.device)?;
        Ok(Instance::model(TorchScript { module, store, config: self, loss, classes: None, training: true }))
    }
}

pipe_core::register!(TorchScriptConfig);

/// The module's tensors by name. A tensor with several names (tied weights) is trained under the first.
fn store_of(module: &ScriptModule, device: tch::Device) -> Result<ParameterStore> {
    let store = ParameterStore::new();
    let root = store.root();
    let mut seen = Vec::new();
    for (name, parameter) in module.parameters()? {
        let key = (parameter.data_ptr(), parameter.size());
        if seen.contains(&key) {
            let _shared = root.buffer(&name, parameter)?;
        } else {
            seen.push(key);
            root.adopt(&name, &parameter)?;
        }
    }
    for (name, buffer) in module.buffers()? {
        let _shared = root.buffer(&name, buffer)?;
    }
    store.to(device)?;
    Ok(store)
}

/// The running model.
struct TorchScript {
    module: ScriptModule,
    store: ParameterStore,
    config: TorchScriptConfig,
    loss: ClassLoss,
    /// Known once the module has given logits.
    classes: Option<i64>,
    training: bool,
}

/// What can be set where the dataset has more classes than the module.
const HELP: &str = "use a module with a score for each class of the dataset";

impl Stateful for TorchScript {
    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.store.state_dict(), ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.store.load_state_dict(&state.tensors, &LoadOptions::default()).map(|_| ())
    }
}

impl Model for TorchScript {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let (field, ignored) = match self.config.task {
            Task::Classification => (fields::LABEL, IGNORED),
            Task::Segmentation => (fields::SEGMENTATION, IGNORED_PIXEL),
            Task::Own => return Ok(()),
        };
        match (self.classes, batch.get(field)) {
            (Some(classes), Some(BatchField::Stacked(labels))) => check_classes(batch, labels, classes, ignored, HELP),
            _ => Ok(()),
        }
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        self.module.set_training(self.training)?;
        match self.config.task {
            Task::Classification => self.classify(batch),
            Task::Segmentation => self.segment(batch),
            Task::Own => self.own(batch),
        }
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.store.trainable()
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        self.store.buffers()
    }
}

impl TorchScript {
    /// The loss of logits against labels. The number of classes is known from the first logits on.
    fn loss(&mut self, logits: &Tensor, labels: &Tensor, ignored: i64, batch: &Batch) -> Result<Tensor> {
        let classes = count_classes(logits)?;
        if self.classes.replace(classes) != Some(classes) {
            check_classes(batch, labels, classes, ignored, HELP)?;
        }
        self.loss.tell((self.loss.name(), 1.0), logits, labels, ignored)?;
        self.loss.of(logits, labels, ignored)
    }

    fn call(&mut self, inputs: &[Tensor]) -> Result<Vec<(String, Tensor)>> {
        let shapes = inputs.iter().map(|input| format!("{:?}", input.size())).collect::<Vec<_>>().join(" and ");
        let called = self.module.forward(inputs);
        called.with_context(|| format!("the module of {} failed on {shapes}", self.config.file.as_str()))
    }

    fn logits(&mut self, batch: &Batch) -> Result<Tensor> {
        let images = to_float(batch.stacked(fields::IMAGE)?);
        let mut outputs = self.call(&[images])?;
        let names: Vec<String> = outputs.iter().map(|(name, _)| format!("`{name}`")).collect();
        let chosen = match &self.config.logits {
            Some(wanted) => outputs.iter().position(|(name, _)| name == wanted),
            None if outputs.len() == 1 => Some(0),
            None => bail!("the module returns {}; set the one with the logits: `logits = \"…\"`", names.join(", ")),
        };
        let chosen = chosen.with_context(|| {
            format!("the module returns no `{}` but {}", self.config.logits.as_deref().unwrap_or(""), names.join(", "))
        })?;
        Ok(outputs.swap_remove(chosen).1)
    }

    fn classify(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let logits = self.logits(batch)?;
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        if batch.get(fields::LABEL).is_some() {
            ensure!(logits.dim() == 2, "a classifier returns [N, classes], this one {:?}", logits.size());
            let loss = self.loss(&logits, batch.stacked(fields::LABEL)?, IGNORED, batch)?;
            output.losses.insert(self.loss.name().into(), loss);
        }
        output.outputs.set(fields::LOGITS, BatchField::Stacked(logits));
        Ok(output)
    }

    fn segment(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let logits = self.logits(batch)?;
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        if batch.get(fields::SEGMENTATION).is_some() {
            ensure!(logits.dim() == 4, "segmentation returns [N, classes, H, W], this one {:?}", logits.size());
            let loss = self.loss(&logits, batch.stacked(fields::SEGMENTATION)?, IGNORED_PIXEL, batch)?;
            output.losses.insert(self.loss.name().into(), loss);
        }
        output.outputs.set(fields::SEGMENTATION_LOGITS, BatchField::Stacked(logits));
        Ok(output)
    }

    fn own(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let input = |name: &String| {
            let tensor = batch.stacked(name)?;
            Ok(if name == fields::IMAGE { to_float(tensor) } else { tensor.shallow_clone() })
        };
        let inputs = self.config.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        for (name, tensor) in self.call(&inputs)? {
            if name.starts_with("loss") && tensor.numel() == 1 {
                output.losses.insert(name, tensor.reshape([]));
            } else {
                output.outputs.set(&name, BatchField::Stacked(tensor));
            }
        }
        if let Some(missing) = self.config.outputs.iter().find(|name| output.outputs.get(name).is_none()) {
            let names: Vec<&str> = output.outputs.iter().map(|(name, _)| name).collect();
            bail!("the module returned no `{missing}`; it returned {}", names.join(", "));
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::{Device, Kind as Type};

    use super::*;
    use pipe_core::Shared;
    use pipe_run::testing::{TestRun, assert_close, numbers, parity, stored};

    fn file(name: &str) -> String {
        format!("{}/../../tests/parity/script/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn model(test: &TestRun, mut table: serde_json::Value) -> Shared<dyn Model> {
        table["type"] = "torchscript".into();
        match test.try_build("model.net", table).unwrap() {
            Instance::Model(model) => model,
            _ => panic!("no model"),
        }
    }

    /// As `wave` of make.py.
    fn wave(shape: &[i64]) -> Tensor {
        let count = shape.iter().product::<i64>();
        (Tensor::arange(count, (Type::Double, Device::Cpu)) * 0.7).sin().to_kind(Type::Float).reshape(shape)
    }

    fn batch() -> Batch {
        let mut batch = Batch::new(5);
        batch.set(fields::IMAGE, BatchField::Stacked(wave(&[5, 1, 9, 9])));
        batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0i64, 1, 2, 0, 1])));
        batch
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.detach().to_kind(Type::Double).flatten(0, -1)).unwrap()
    }

    fn logits(model: &Shared<dyn Model>) -> Vec<f64> {
        model.borrow_mut().set_training(false);
        let output = model.borrow_mut().forward(&batch()).unwrap();
        values(output.outputs.stacked(fields::LOGITS).unwrap())
    }

    #[test]
    fn it_trains_as_in_python_and_its_state_comes_back() {
        let expected = parity("script/expected.json");
        let test = TestRun::new();
        let net = model(&test, json!({ "file": file("net.pt") }));
        assert_close("evaluated", &logits(&net), &numbers(&expected["evaluated"]), 1e-5);
        let table = json!({ "type": "sgd", "model": "model.net", "lr": 0.1, "momentum": 0.9 });
        let sgd = test.optimizer("optimizer.sgd", table);
        net.borrow_mut().set_training(true);
        let mut losses = Vec::new();
        for _ in 0..5 {
            let output = net.borrow_mut().forward(&batch()).unwrap();
            let loss = &output.losses["cross_entropy"];
            sgd.borrow_mut().zero_grad();
            loss.backward();
            sgd.borrow_mut().step().unwrap();
            losses.push(loss.double_value(&[]));
        }
        assert_close("losses", &losses, &numbers(&expected["losses"]), 1e-5);
        let state = net.borrow().state().unwrap();
        let names: Vec<&str> = state.tensors.keys().map(String::as_str).collect();
        let wanted = expected["state"].as_object().unwrap();
        assert_eq!(names.len(), wanted.len(), "{names:?}");
        for (name, numbers_of_torch) in wanted {
            assert_close(name, &values(&state.tensors[name]), &numbers(numbers_of_torch), 1e-5);
        }
        let after = numbers(&expected["evaluated_after"]);
        assert_close("evaluated after", &logits(&net), &after, 1e-5);
        let kept = stored(&state);
        let other = model(&TestRun::new(), json!({ "file": file("net.pt") }));
        other.borrow_mut().load_state(&kept).unwrap();
        assert_eq!(logits(&other), logits(&net), "buffers included");
    }

    #[test]
    fn traced_and_frozen_modules_evaluate() {
        let evaluated = numbers(&parity("script/expected.json")["evaluated"]);
        let test = TestRun::new();
        let traced = model(&test, json!({ "file": file("traced.pt") }));
        assert_close("traced", &logits(&traced), &evaluated, 1e-5);
        assert!(!traced.borrow().parameters().is_empty());
        let frozen = model(&test, json!({ "file": file("frozen.pt") }));
        assert_close("frozen", &logits(&frozen), &evaluated, 1e-5);
        assert!(frozen.borrow().parameters().is_empty());
        let table = json!({ "type": "sgd", "model": "model.net", "lr": 0.1 });
        let error = format!("{:#}", test.try_build("optimizer.sgd", table).err().unwrap());
        assert!(error.contains("no trainable parameters"), "{error}");
    }

    #[test]
    fn segmentation_takes_one_of_several_outputs() {
        let test = TestRun::new();
        let table = json!({ "file": file("segment.pt"), "task": "segmentation", "logits": "out" });
        let net = model(&test, table);
        let mut batch = batch();
        let labels = Tensor::arange(5 * 81, (Type::Int64, Device::Cpu)).remainder(3).reshape([5, 9, 9]);
        let _ = labels.narrow(1, 0, 1).fill_(255);
        batch.set(fields::SEGMENTATION, BatchField::Stacked(labels));
        let output = net.borrow_mut().forward(&batch).unwrap();
        let expected = parity("script/expected.json")["segment_loss"].as_f64().unwrap();
        assert_close("loss", &[output.losses["cross_entropy"].double_value(&[])], &[expected], 1e-6);
        let unsaid = model(&test, json!({ "file": file("segment.pt"), "task": "segmentation" }));
        let error = unsaid.borrow_mut().forward(&batch).unwrap_err().to_string();
        assert!(error.contains("`out`, `aux`"), "{error}");
    }

    #[test]
    fn a_module_with_losses_of_its_own_and_tied_weights() {
        let expected = parity("script/expected.json");
        let test = TestRun::new();
        let table =
            json!({ "file": file("own.pt"), "task": "own", "inputs": ["image", "label"], "outputs": ["logits"] });
        let net = model(&test, table);
        let mut batch = Batch::new(5);
        batch.set(fields::IMAGE, BatchField::Stacked(wave(&[5, 1, 2, 2])));
        batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0i64, 1, 2, 3, 1])));
        let output = net.borrow_mut().forward(&batch).unwrap();
        let names: Vec<&str> = output.losses.keys().map(String::as_str).collect();
        assert_eq!(names, ["loss_square", "loss_class"]);
        for (name, loss) in &output.losses {
            assert_close(name, &values(loss), &numbers(&expected["own"][name]), 1e-5);
        }
        assert_eq!(net.borrow().parameters().len(), 1, "tied weights are trained once");
        let state = net.borrow().state().unwrap();
        assert_eq!(state.tensors.keys().collect::<Vec<_>>(), ["first.weight", "second.weight", "calls"]);
        assert_eq!(state.tensors["calls"].int64_value(&[]), 1);
    }

    #[test]
    fn labels_without_a_score_are_named() {
        let net = model(&TestRun::new(), json!({ "file": file("net.pt") }));
        let mut wrong = batch();
        wrong.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0i64, 1, 3, 0, 1])));
        let said = "image 2 of the batch has label 3, but the model has 3 classes";
        // How many classes there are, the first pass tells.
        net.borrow().check(&wrong).unwrap();
        let error = net.borrow_mut().forward(&wrong).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
        let error = net.borrow().check(&wrong).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
        net.borrow().check(&batch()).unwrap();
    }

    #[test]
    fn weights_that_others_replace_need_not_be_there() {
        let test = TestRun::new();
        let table = json!({ "type": "torchscript", "file": file("net.pt"), "weights": "/nowhere/net.pth" });
        let error = format!("{:#}", test.try_build("model.net", table.clone()).err().unwrap());
        assert!(error.contains("/nowhere/net.pth"), "{error}");
        assert!(test.try_build_with("model.net", table, false).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let test = TestRun::new();
        let build = |table: serde_json::Value| format!("{:#}", test.try_build("model.net", table).err().unwrap());
        let missing = build(json!({ "type": "torchscript", "file": "/nowhere/net.pt" }));
        assert!(missing.contains("there is no file /nowhere/net.pt"), "{missing}");
        let other = build(json!({ "type": "torchscript", "file": file("expected.json") }));
        assert!(other.contains("cannot be read as a TorchScript file"), "{other}");
        let inputs = build(json!({ "type": "torchscript", "file": file("own.pt"), "task": "own" }));
        assert!(inputs.contains("without arguments"), "{inputs}");
        let net = model(&test, json!({ "file": file("net.pt") }));
        let mut batch = batch();
        batch.set(fields::IMAGE, BatchField::Stacked(wave(&[5, 2, 9, 9])));
        let error = format!("{:#}", net.borrow_mut().forward(&batch).unwrap_err());
        assert!(error.contains("net.pt failed on [5, 2, 9, 9]"), "{error}");
    }
}
