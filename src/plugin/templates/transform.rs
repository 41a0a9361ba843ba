use pipe_plugin::prelude::*;

/// Multiplies every pixel.
///
/// Bytes stay bytes: what would be above 255 becomes 255.
#[config]
pub struct PluginName {
    /// By so much.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub factor: f32,
}

fn one() -> f32 {
    1.0
}

impl Component for PluginName {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[transform.mine]
type = "plugin_name"
factor = 1.5
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

impl Transform for PluginName {
    fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        match &mut sample.image_mut()?.pixels {
            Pixels::U8(bytes) => bytes.iter_mut().for_each(|b| *b = (f32::from(*b) * self.factor) as u8),
            Pixels::F32(values) => values.iter_mut().for_each(|v| *v *= self.factor),
        }
        Ok(sample)
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::{rng, transform};

    use super::*;

    #[test]
    fn pixels_are_multiplied() {
        let built = transform::<PluginName>(json!({ "factor": 2.0 })).unwrap();
        let image = Image::from_u8(1, 3, 1, vec![1, 100, 200]);
        let sample = Sample::new().with(fields::IMAGE, Field::Image(image));
        let sample = built.apply(sample, &mut rng(0)).unwrap();
        assert_eq!(sample.image().unwrap().pixels, Pixels::U8(vec![2, 200, 255]));
    }
}
