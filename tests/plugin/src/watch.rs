//! A metric, a handler, a sink.

use std::io::Write;

use pipe_plugin::prelude::*;
use pipe_plugin::tch::Kind as Type;

/// Share of samples whose class is not the likeliest.
#[config]
pub struct Error {}

impl Config for Error {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "test_error";
    const EXAMPLE: &'static str = "[metric.error]\ntype = \"test_error\"\n";

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::LOGITS, fields::LABEL])
    }

    fn values(&self) -> Vec<String> {
        vec!["error".into()]
    }
}

impl Component for Error {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::metric(ErrorRate::default()))
    }
}

#[derive(Default)]
struct ErrorRate {
    wrong: f64,
    seen: f64,
}

impl Stateful for ErrorRate {
    fn state(&self) -> Result<State> {
        State::of(&json!({ "wrong": self.wrong, "seen": self.seen }))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let number = |name: &str| state.values.get(name).and_then(Value::as_f64).context("no number");
        (self.wrong, self.seen) = (number("wrong")?, number("seen")?);
        Ok(())
    }
}

impl Metric for ErrorRate {
    fn reset(&mut self) {
        *self = ErrorRate::default();
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let found = output.outputs.stacked(fields::LOGITS)?.argmax(1, false);
        self.wrong += found.not_equal_tensor(batch.stacked(fields::LABEL)?).sum(Type::Double).double_value(&[]);
        self.seen += batch.size as f64;
        Ok(())
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        let mut others = ErrorRate::default();
        others.load_state(other)?;
        (self.wrong, self.seen) = (self.wrong + others.wrong, self.seen + others.seen);
        Ok(())
    }

    fn compute(&mut self) -> Result<MetricReport> {
        Ok(MetricReport {
            values: vec![("error".into(), self.wrong / self.seen)],
            text: Some("errors".into()),
            records: vec![("seen".into(), RecordValue::Histogram(vec![self.seen as f32]))],
        })
    }
}

/// Counts its calls, and ends the engine when there were enough.
#[config]
pub struct Counter {
    /// So many calls are enough.
    pub enough: u64,
}

impl Config for Counter {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "test_counter";
    const EXAMPLE: &'static str = "[handler.counter]\ntype = \"test_counter\"\nenough = 3\n";
}

impl Component for Counter {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::handler(Counting { calls: 0, enough: self.enough }))
    }
}

struct Counting {
    calls: u64,
    enough: u64,
}

impl Stateful for Counting {
    fn state(&self) -> Result<State> {
        State::of(&json!({ "calls": self.calls }))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.calls = state.values["calls"].as_u64().context("no number of calls")?;
        Ok(())
    }
}

impl Handler for Counting {
    fn call(&mut self, event: &Event) -> Result<()> {
        self.calls += 1;
        event.scalar("calls", self.calls as f64);
        if let Some((batch, output)) = &event.output {
            let loss = output.losses.values().next().map_or(f64::NAN, |loss| loss.double_value(&[]));
            let text = format!("{} {}: {} samples, loss {loss:.3}", event.engine, event.name, batch.size);
            event.emit("seen", RecordValue::Text(text));
        }
        if self.calls >= self.enough {
            event.terminate();
        }
        Ok(())
    }
}

/// Writes records as lines.
#[config]
pub struct Lines {
    /// The file, relative to the pipeline.
    pub file: PathValue,
}

impl Config for Lines {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "test_lines";
    const EXAMPLE: &'static str = "[sink.lines]\ntype = \"test_lines\"\nfile = \"lines.txt\"\n";
}

impl Component for Lines {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        let path = self.file.path().context("`file` must be a path")?;
        let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Instance::sink(LineWriter(file)))
    }
}

struct LineWriter(std::fs::File);

impl Stateful for LineWriter {}

impl Sink for LineWriter {
    fn write(&mut self, record: &Record) -> Result<()> {
        writeln!(self.0, "{} {}", record.tag, record.value.kind()).context("cannot write a line")
    }

    fn finish(&mut self, summary: &Summary) -> Result<()> {
        writeln!(self.0, "{}", summary.status).context("cannot write a line")
    }
}
