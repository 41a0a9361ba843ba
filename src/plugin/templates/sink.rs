use std::io::{BufWriter, Write};

use pipe_plugin::prelude::*;

/// Writes numbers as comma-separated values: step, epoch, tag, value.
#[config]
pub struct PluginName {
    /// The file; relative to the pipeline's own.
    pub file: PathValue,
    /// The tags of the records that are written; all of them when empty.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl Config for PluginName {
    const KIND: Kind = Kind::Sink;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[sink.mine]
type = "plugin_name"
file = "numbers.csv"
"#;
}

impl Component for PluginName {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        let path = self.file.path().context("`file` must be a path")?;
        let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Instance::sink(Csv { file: BufWriter::new(file), tags: self.tags }))
    }
}

struct Csv {
    file: BufWriter<std::fs::File>,
    tags: Vec<String>,
}

impl Stateful for Csv {}

impl Sink for Csv {
    fn write(&mut self, record: &Record) -> Result<()> {
        let wanted = self.tags.is_empty() || self.tags.contains(&record.tag);
        if let (RecordValue::Scalar(value), true) = (&record.value, wanted) {
            writeln!(self.file, "{},{},{},{value}", record.step, record.epoch, record.tag)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.file.flush()?)
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::sink;

    use super::*;

    #[test]
    fn numbers_are_lines() {
        let path = std::env::temp_dir().join(format!("plugin_name-{}.csv", std::process::id()));
        let mut built = sink::<PluginName>(json!({ "file": path })).unwrap();
        let value = RecordValue::Scalar(0.5);
        let node = "engine.trainer".parse().unwrap();
        built.write(&Record { tag: "loss".into(), value, step: 7, epoch: 1, node, time: 0.0 }).unwrap();
        built.flush().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7,1,loss,0.5\n");
        std::fs::remove_file(&path).unwrap();
    }
}
