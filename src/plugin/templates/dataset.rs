use pipe_plugin::prelude::*;

/// Images of bars that stand or lie, made as they are asked for.
#[config]
pub struct PluginName {
    /// Number of images.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1))]
    pub count: usize,
    /// Their sides in pixels.
    #[serde(default = "side")]
    #[schemars(range(min = 1))]
    pub size: usize,
}

fn thousand() -> usize {
    1000
}

fn side() -> usize {
    28
}

impl Config for PluginName {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[dataset.mine]
type = "plugin_name"
count = 100
"#;

    fn properties() -> &'static [Property] {
        &[Property { name: "num_classes", ty: PropertyType::Integer, doc: "number of classes" }]
    }

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::LABEL])
    }
}

impl Component for PluginName {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::dataset(self))
    }
}

impl Dataset for PluginName {
    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (stands, place) = (index.is_multiple_of(2), index / 2 % self.size);
        let pixel = |i: usize| if (if stands { i % self.size } else { i / self.size }) == place { 255 } else { 0 };
        let image = Image::from_u8(self.size, self.size, 1, (0..self.size * self.size).map(pixel).collect());
        Ok(Sample::new()
            .with(fields::IMAGE, Field::Image(image))
            .with(fields::LABEL, Field::Integer(i64::from(stands))))
    }

    fn property(&self, name: &str) -> Result<Value> {
        ensure!(name == "num_classes", "there is no property `{name}`");
        Ok(json!(2))
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::dataset;

    use super::*;

    #[test]
    fn bars_stand_and_lie() {
        let built = dataset::<PluginName>(json!({ "count": 4, "size": 2 })).unwrap();
        let pixels = |index| built.get(index).unwrap().image().unwrap().pixels.clone();
        assert_eq!(built.len(), 4);
        assert_eq!(pixels(0), Pixels::U8(vec![255, 0, 255, 0]));
        assert_eq!(pixels(3), Pixels::U8(vec![0, 0, 255, 255]));
        assert_eq!(built.property("num_classes").unwrap(), json!(2));
    }
}
