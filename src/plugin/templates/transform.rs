use pipe_plugin::prelude::*;

/// Makes images brighter or darker at random.
///
/// Every pixel is multiplied by one factor, drawn for each image. Bytes stay bytes: what would be above 255 becomes 255.
#[config]
pub struct PluginName {
    /// The probability that an image is changed.
    #[serde(default = "half")]
    #[schemars(range(min = 0, max = 1))]
    pub p: f64,
    /// The factor lies between `1 - strength` and `1 + strength`.
    #[serde(default = "half")]
    #[schemars(range(min = 0, max = 1))]
    pub strength: f64,
}

fn half() -> f64 {
    0.5
}

impl Config for PluginName {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[transform.mine]
type = "plugin_name"
p = 0.8
strength = 0.3
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for PluginName {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

impl Transform for PluginName {
    // All chance comes from `rng`, the sample's own stream: runs with the same seed draw the same numbers.
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if !chance(rng, self.p) {
            return Ok(sample);
        }
        let factor = between(rng, [1.0 - self.strength, 1.0 + self.strength]) as f32;
        match &mut sample.image_mut()?.pixels {
            Pixels::U8(bytes) => bytes.iter_mut().for_each(|b| *b = (f32::from(*b) * factor) as u8),
            Pixels::F32(values) => values.iter_mut().for_each(|v| *v *= factor),
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
    fn each_image_gets_a_factor_of_its_own_in_the_range() {
        let pixel = |options: Value, index: u64| {
            let built = transform::<PluginName>(options).unwrap();
            let sample = Sample::new().with(fields::IMAGE, Field::Image(Image::from_u8(1, 1, 1, vec![100])));
            match &built.apply(sample, &mut rng(index)).unwrap().image().unwrap().pixels {
                Pixels::U8(bytes) => bytes[0],
                Pixels::F32(_) => panic!("bytes stay bytes"),
            }
        };
        let drawn = || (0..20).map(|index| pixel(json!({ "p": 1.0, "strength": 0.2 }), index)).collect::<Vec<u8>>();
        assert!(drawn().iter().all(|value| (79..=120).contains(value)), "{:?}", drawn());
        assert!(drawn().iter().any(|value| *value < 95) && drawn().iter().any(|value| *value > 105), "{:?}", drawn());
        assert_eq!(drawn(), drawn(), "the same streams draw the same numbers");
        assert_eq!(pixel(json!({ "p": 0.0 }), 0), 100);
    }
}
