//! Datasets and transforms.

use pipe_plugin::prelude::*;
use pipe_plugin::rand::Rng;

/// Adds to every pixel, and misbehaves when asked.
///
/// The mark of this build is version-one.
#[config]
pub struct Brighten {
    /// What is added.
    #[serde(default)]
    #[schemars(range(min = 0, max = 255))]
    pub by: u8,
    /// Adds as much again, drawn at random, at most.
    #[serde(default)]
    pub jitter: u8,
    /// `panic`, `error`, or `check` (then it panics while it is checked).
    #[serde(default)]
    pub fault: Option<String>,
}

impl Config for Brighten {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "test_brighten";
    const EXAMPLE: &'static str = "[transform.bright]\ntype = \"test_brighten\"\nby = 10\n";

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        match self.fault.as_deref() {
            None | Some("panic" | "error") => {}
            Some("check") => panic!("checked in vain"),
            Some(other) => problems.at("fault", format!("there is no fault `{other}`"), "write `panic` or `error`"),
        }
    }
}

impl Component for Brighten {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

impl Transform for Brighten {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        match self.fault.as_deref() {
            Some("panic") => panic!("this transform panics"),
            Some("error") => bail!("this transform fails"),
            _ => {}
        }
        let by = self.by.saturating_add(if self.jitter > 0 { rng.random_range(0..=self.jitter) } else { 0 });
        if let Pixels::U8(bytes) = &mut sample.image_mut()?.pixels {
            bytes.iter_mut().for_each(|byte| *byte = byte.saturating_add(by));
        }
        Ok(sample)
    }
}

/// Images of one gray each, from 0 upwards.
#[config]
pub struct Ramp {
    /// Number of images.
    #[serde(default = "eight")]
    pub count: usize,
}

fn eight() -> usize {
    8
}

impl Config for Ramp {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "test_ramp";
    const EXAMPLE: &'static str = "[dataset.ramp]\ntype = \"test_ramp\"\ncount = 4\n";

    fn properties() -> &'static [Property] {
        &[Property { name: "num_classes", ty: PropertyType::Integer, doc: "number of classes" }]
    }

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::LABEL])
    }
}

impl Component for Ramp {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::dataset(self))
    }
}

impl Dataset for Ramp {
    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let image = Image::from_u8(2, 2, 1, vec![index as u8; 4]);
        Ok(Sample::new()
            .with(fields::IMAGE, Field::Image(image))
            .with(fields::LABEL, Field::Integer((index % 2) as i64)))
    }

    fn property(&self, name: &str) -> Result<Value> {
        ensure!(name == "num_classes", "there is no property `{name}`");
        Ok(json!(2))
    }
}

/// Another dataset several times over.
#[config]
pub struct Repeat {
    /// The other one.
    pub dataset: Ref<dyn Dataset>,
    /// How many times.
    pub times: usize,
}

impl Config for Repeat {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "test_repeat";
    const EXAMPLE: &'static str = "[dataset.ramp]\ntype = \"test_ramp\"\n\n[dataset.more]\ntype = \"test_repeat\"\n\
        dataset = \"dataset.ramp\"\ntimes = 2\n";

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::LABEL])
    }
}

impl Component for Repeat {
    fn build(self, ctx: &mut Build) -> Result<Instance> {
        let inner = ctx.dataset(&self.dataset)?;
        Ok(Instance::dataset(Repeated { inner, times: self.times }))
    }
}

struct Repeated {
    inner: Box<dyn Dataset>,
    times: usize,
}

impl Dataset for Repeated {
    fn len(&self) -> usize {
        self.inner.len() * self.times
    }

    fn get(&self, index: usize) -> Result<Sample> {
        self.inner.get(index % self.inner.len())
    }
}
