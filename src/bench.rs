//! `pipe bench FILE`: what a training iteration costs, and where it goes.

use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use pipe_core::{Engine, Instance, Kind, Limits, NodeId, Precision, terminal};
use pipe_native::profile::{Operator, Part, Profile};
use pipe_native::stream::synchronize;
use pipe_native::{device_name, is_accelerator, memory};
use serde_json::{Value, json};
use tch::{Device, Kind as Type, TchError, Tensor};

use crate::output::{Format, Status, print};
use crate::partial::{Partial, port_of, training_engine};
use crate::preflight::choose_batch_sizes;
use crate::signals::{Signals, Words};
use crate::source::{PipelineArgs, plan_or_tell};

/// Arguments of `pipe bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The training engine, if the pipeline has several.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Iterations that are measured, after three that are not.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    iterations: u64,
    /// Device, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Iterations before it is measured: memory is taken, kernels are chosen, workers have filled their queue.
const WARM_UP: u64 = 3;

/// The loader alone is measured so long.
const LOADING: Duration = Duration::from_secs(2);

/// Trains for some iterations, on copies of everything that end with the command, and says what they cost.
///
/// # Errors
/// What stops the training.
pub fn bench(args: &BenchArgs) -> Result<Status> {
    let mut pipeline = args.pipeline.clone();
    let mut loaded = pipeline.load();
    if plan_or_tell(&loaded)?.is_none() {
        return Ok(Status::Wrong);
    }
    choose_batch_sizes(&mut pipeline, &mut loaded, args.device.as_deref(), None)?;
    let Some(plan) = &loaded.plan else { return Ok(Status::Wrong) };
    let id = training_engine(plan, args.engine.as_deref())?.clone();
    let words = Words {
        first: Some("stopping; press Ctrl-C again to stop immediately"),
        still: "the step is still running",
        json: false,
    };
    let signals = Signals::listen(words)?;
    let interrupt = signals.requests.interrupt.clone();
    let partial = Partial::open(plan, loaded.catalog.clone(), args.device.as_deref(), interrupt)?;
    let Instance::Engine(engine) = partial.build_with_weights(plan, &id)? else { bail!("{id} is not an engine") };
    let model = port_of(plan, &id, Kind::Model).with_context(|| format!("{id} has no model"))?;
    let workers =
        port_of(plan, &id, Kind::Loader).and_then(|loader| plan.nodes.get(loader)?.config.get("workers")?.as_u64());
    let trial = Trial { partial: &partial, engine, id: id.clone(), measured: args.iterations };
    let Some(report) = trial.report(model, workers.unwrap_or(4))? else {
        return Ok(Status::Signalled(signals.status()));
    };
    print(&match args.format {
        Format::Text => report.text(),
        Format::Json => serde_json::to_string_pretty(&report.json())? + "\n",
    })?;
    Ok(Status::Done)
}

/// A training engine that is measured.
struct Trial<'a> {
    partial: &'a Partial,
    engine: Rc<Engine>,
    id: NodeId,
    measured: u64,
}

impl Trial<'_> {
    /// Measures; nothing where it was interrupted.
    fn report(&self, model: &NodeId, workers: u64) -> Result<Option<Report>> {
        let run = self.partial.context();
        let device = run.device;
        let _takes_long = terminal::working("measuring");
        let (parameters, trainable) = self.parameters(model)?;
        // Before training may have left too little memory for it.
        let peak_flops = peak(device, run.precision)?;
        memory::forget(device)?;
        let Some(_) = self.advance(WARM_UP)? else { return Ok(None) };
        let Some(whole) = self.advance(self.measured)? else { return Ok(None) };
        // Once more, as waiting for the device between the parts makes the whole slower.
        run.timings.enable(is_accelerator(device).then_some(device));
        let Some(_) = self.advance(self.measured)? else { return Ok(None) };
        run.timings.disable();
        let of_engine = run.timings.all().into_iter().filter(|(engine, _, _)| *engine == self.id);
        let parts: Vec<_> = of_engine.map(|(_, what, spent)| (what, spent.total / self.measured as u32)).collect();
        let profile = Profile::begin()?;
        let Some(_) = self.advance(1)? else { return Ok(None) };
        let (operators, mut stages) = profile.end(None)?;
        // The engine's parts are known already, better measured.
        stages.retain(|stage| !parts.iter().any(|(name, _)| *name == stage.name));
        let loading = self.loading()?;
        let batch = self.engine.loader().borrow().outlook(None);
        let batch = batch.and_then(|outlook| outlook.batches(0).first().map(Vec::len)).unwrap_or(1);
        Ok(Some(Report {
            device,
            precision: run.precision,
            parameters,
            trainable,
            batch,
            workers,
            iteration: whole / self.measured as u32,
            parts,
            flops: operators.iter().map(|operator| operator.flops).sum(),
            peak_flops,
            waits: waits(device, &operators),
            operators,
            stages,
            loading,
            memory: (memory::max_allocated(device)?, memory::free_and_total(device)?.1),
        }))
    }

    /// So many iterations more, and how long they took.
    fn advance(&self, iterations: u64) -> Result<Option<Duration>> {
        let done = self.engine.current().iteration;
        let limits = Limits { max_epochs: None, max_iterations: Some(done + iterations), ..self.engine.limits() };
        self.engine.set_limits(limits);
        let start = Instant::now();
        if self.partial.graph.drive(&self.engine)?.is_break() {
            return Ok(None);
        }
        let device = self.partial.context().device;
        if is_accelerator(device) {
            synchronize(device)?;
        }
        Ok(Some(start.elapsed()))
    }

    /// All parameters and buffers of a model, and those that are trained.
    fn parameters(&self, model: &NodeId) -> Result<(usize, usize)> {
        let Instance::Model(model) = self.partial.graph.node(model)? else { bail!("{model} is no model") };
        let model = model.borrow();
        let all = model.state()?.tensors.values().map(Tensor::numel).sum();
        Ok((all, model.parameters().iter().map(|(_, tensor)| tensor.numel()).sum()))
    }

    /// How long the loader takes for a batch while nothing else is at work: over whole epochs, so that nothing was made before.
    fn loading(&self) -> Result<Duration> {
        let loader = self.engine.loader();
        let mut loader = loader.borrow_mut();
        let (start, mut batches, mut epoch) = (Instant::now(), 0, 0);
        while start.elapsed() < LOADING {
            loader.start_epoch(epoch, 0)?;
            while start.elapsed() < LOADING && loader.next_batch()?.is_some() {
                batches += 1;
            }
            epoch += 1;
        }
        Ok(start.elapsed() / batches.max(1))
    }
}

/// The floating-point operations a second that a product of large matrices or a convolution of many channels reaches, whichever is
/// more, in the type in which the model computes. On the CPU two libraries compute them.
fn peak(device: Device, precision: Precision) -> Result<f64> {
    let kind = match precision {
        Precision::Fp32 => Type::Float,
        Precision::Fp16 => Type::Half,
        Precision::Bf16 => Type::BFloat16,
    };
    let side: i64 = if is_accelerator(device) { 4096 } else { 1024 };
    let a = Tensor::f_ones([side, side], (Type::Float, device))?.f_to_kind(kind)?;
    let product = reached(device, 2.0 * (side as f64).powi(3), || a.f_matmul(&a))?;
    let (channels, side) = (256, side / 16);
    let ones = |size: [i64; 4]| Tensor::f_ones(size, (Type::Float, device))?.f_to_kind(kind);
    let (image, weight) = (ones([1, channels, side, side])?, ones([channels, channels, 3, 3])?);
    let flops = 2.0 * 9.0 * (channels * side).pow(2) as f64;
    let convolution = || image.f_conv2d(&weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1);
    Ok(product.max(reached(device, flops, convolution)?))
}

/// What one of so many floating-point operations reaches in a second: the best of five.
fn reached(device: Device, flops: f64, of: impl Fn() -> Result<Tensor, TchError>) -> Result<f64> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let _made = of()?;
        if is_accelerator(device) {
            synchronize(device)?;
        }
        best = best.min(start.elapsed());
    }
    Ok(flops / best.as_secs_f64())
}

/// How often the host waited for a GPU in an iteration, by CUDA's name of the call; less the wait at its end, which is of the measurement.
fn waits(device: Device, operators: &[Operator]) -> Option<Vec<(String, u64)>> {
    let waits = |operator: &&Operator| operator.name.starts_with("cuda") && operator.name.ends_with("Synchronize");
    let own = |name: &str| u64::from(name == "cudaDeviceSynchronize");
    let all = operators.iter().filter(waits);
    let all = all.map(|operator| (operator.name.clone(), operator.times.saturating_sub(own(&operator.name))));
    pipe_native::device::tells_waits(device).then(|| all.filter(|(_, times)| *times > 0).collect())
}

/// What was measured.
struct Report {
    device: Device,
    precision: Precision,
    parameters: usize,
    trainable: usize,
    batch: usize,
    workers: u64,
    /// An iteration, its parts running beside each other.
    iteration: Duration,
    /// Parts of an iteration, each waited for.
    parts: Vec<(String, Duration)>,
    /// Floating-point operations of an iteration.
    flops: u64,
    /// Floating-point operations a second that a product of matrices or a convolution reaches.
    peak_flops: f64,
    /// Waits of the host, where there is something to wait for.
    waits: Option<Vec<(String, u64)>>,
    operators: Vec<Operator>,
    /// Parts of the model, where it tells of them.
    stages: Vec<Part>,
    /// A batch of the loader alone.
    loading: Duration,
    /// The most bytes in use, and all that there are.
    memory: (u64, u64),
}

impl Report {
    fn rate(&self, of: Duration) -> f64 {
        self.batch as f64 / of.as_secs_f64().max(1e-9)
    }

    fn part(&self, name: &str) -> Duration {
        self.parts.iter().find(|(part, _)| part == name).map_or(Duration::ZERO, |(_, spent)| *spent)
    }

    /// The part of what the machine reaches in a product of matrices or a convolution.
    fn share_of_peak(&self) -> f64 {
        self.flops as f64 / self.iteration.as_secs_f64() / self.peak_flops
    }

    /// What would make it faster, most first.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let iteration = self.parts.iter().map(|(_, spent)| spent.as_secs_f64()).sum::<f64>().max(1e-9);
        let share = |name: &str| self.part(name).as_secs_f64() / iteration;
        let (waiting, copying) = (share("data wait"), share("to device"));
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        if waiting > 0.1 {
            let more = match self.workers {
                workers if workers < cores => format!("raise `workers`: there are {workers}, and {cores} cores"),
                _ => "make the transforms or the images smaller, or read from a faster disk".to_owned(),
            };
            advice.push(format!("the model waits for data {:.0} % of the time: {more}", 100.0 * waiting));
        }
        if copying > 0.1 {
            advice.push(format!(
                "copies to the device take {:.0} %: smaller images, or larger steps between them",
                100.0 * copying
            ));
        }
        if share("optimizer step") > 0.25 {
            let text = "the optimizer's step takes {} %: a larger `batch_size`, or `accumulate`, makes fewer of them";
            advice.push(text.replace("{}", &format!("{:.0}", 100.0 * share("optimizer step"))));
        }
        if is_accelerator(self.device) {
            if self.precision == Precision::Fp32 {
                advice.push("`precision = \"bf16\"` makes most models faster on a GPU, and takes less memory".into());
            }
            let (used, all) = self.memory;
            if used * 2 < all && waiting <= 0.1 {
                advice.push(format!(
                    "more than half of the memory is free: `batch_size = \"auto\"` uses it ({used} of {all} bytes now)"
                ));
            }
        }
        advice
    }

    fn json(&self) -> Value {
        let seconds = |time: &Duration| json!(time.as_secs_f64());
        let parts: serde_json::Map<String, Value> =
            self.parts.iter().map(|(part, spent)| (part.clone(), seconds(spent))).collect();
        let waits = self.waits.as_ref().map(|waits| -> serde_json::Map<String, Value> {
            waits.iter().map(|(name, times)| (name.clone(), json!(times))).collect()
        });
        json!({
            "device": device_name(self.device),
            "precision": self.precision,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "batch_size": self.batch,
            "iteration_seconds": self.iteration.as_secs_f64(),
            "images_per_second": self.rate(self.iteration),
            "parts_seconds": parts,
            "loader_images_per_second": self.rate(self.loading),
            "flops": self.flops,
            "peak_flops_per_second": self.peak_flops,
            "share_of_peak": self.share_of_peak(),
            "model_parts": self.stages.iter().map(|part| json!({
                "name": part.name, "forward_seconds": part.forward.as_secs_f64(), "backward_seconds": part.backward.as_secs_f64(), "flops": part.flops,
            })).collect::<Vec<_>>(),
            "waits": waits,
            "memory_peak_bytes": self.memory.0,
            "advice": self.advice(),
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name:<22} {value}");
        };
        line("device", format!("{}, {}", device_name(self.device), json!(self.precision).as_str().unwrap_or_default()));
        line(
            "parameters",
            format!("{:.2} M, of which {:.2} M are trained", self.parameters as f64 / 1e6, self.trainable as f64 / 1e6),
        );
        line(
            "iteration",
            format!(
                "{}, {:.1} images/s in batches of {}",
                milliseconds(self.iteration),
                self.rate(self.iteration),
                self.batch
            ),
        );
        for (part, spent) in &self.parts {
            line(&format!("  {part}"), milliseconds(*spent));
        }
        line("loader alone", format!("{:.1} images/s with {} workers", self.rate(self.loading), self.workers));
        let peak = format!(
            "{:.1} GFLOP, {:.0} % of the {:.0} GFLOP/s that a product of matrices or a convolution reaches here",
            self.flops as f64 / 1e9,
            100.0 * self.share_of_peak(),
            self.peak_flops / 1e9
        );
        line("work", peak);
        for part in &self.stages {
            let work = format!("{:.1} GFLOP", part.flops as f64 / 1e9);
            let value = match is_accelerator(self.device) {
                // The host's time says nothing there.
                true => work,
                false => {
                    let seconds = (part.forward + part.backward).as_secs_f64().max(1e-9);
                    let share = 100.0 * part.flops as f64 / seconds / self.peak_flops;
                    let (forward, backward) = (milliseconds(part.forward), milliseconds(part.backward));
                    format!("{work}, {forward} forward, {backward} backward, {share:.0} % of that")
                }
            };
            line(&format!("  {}", part.name), value);
        }
        if let Some(waits) = &self.waits {
            let waits: Vec<String> = waits.iter().map(|(name, times)| format!("{name} {times}")).collect();
            line("waits for the device", if waits.is_empty() { "none".to_owned() } else { waits.join(", ") });
        }
        line("memory at the peak", format!("{:.2} GiB", self.memory.0 as f64 / f64::from(1 << 30)));
        let own = self.operators.iter().filter(|operator| operator.name.contains("::") && !operator.on_device);
        for operator in own.take(5) {
            line("  operator", format!("{} {} times, {}", operator.name, operator.times, milliseconds(operator.spent)));
        }
        for advice in self.advice() {
            line("to change", advice);
        }
        text
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
