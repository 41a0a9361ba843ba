//! For the tests of a plugin: components built as the program builds them, through the border.

use std::ffi::c_void;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use tch::Device;

use crate::abi::{PluginTable, Reply, Request};
use crate::data::random::{Purpose, stream};
use crate::data::{Field, Image, Masks, Sample, SampleRng, fields};
use crate::kinds::dataset::Dataset;
use crate::kinds::handler::Handler;
use crate::kinds::metric::Metric;
use crate::kinds::model::Model;
use crate::kinds::sink::Sink;
use crate::kinds::transform::Transform;
use crate::plugin::{self, BuildPlace, BuiltComponent, Entry, LentPort, Plugin, RemoteOptimizer, RemoteScheduler};
use crate::{Component, NodeId};

/// A plugin of this one component.
pub fn plugin<C: Component>() -> Plugin {
    /// # Safety
    /// As [`crate::abi::Calls::call`].
    unsafe extern "C" fn call<C: Component>(_: *mut c_void, request: *const Request, reply: *mut Reply) -> u32 {
        // SAFETY: the caller's promise is that of this function.
        unsafe { plugin::call(&[Entry::of::<C>()], request, reply) }
    }
    let table: &'static PluginTable = Box::leak(Box::new(plugin::table("test", "0.0.0", 1, call::<C>)));
    // SAFETY: the table was made here, by this crate, and is never freed.
    match unsafe { Plugin::new(table) } {
        Ok(plugin) => plugin,
        Err(refusal) => unreachable!("a table of this crate agrees with this crate: {refusal}"),
    }
}

/// Checks and builds a component from its options (without `type`), on the CPU, as the node `kind.test`.
///
/// # Errors
/// When the options do not fit, its check finds something, or it cannot be built.
pub fn build<C: Component>(config: Value, ports: Vec<LentPort>) -> Result<BuiltComponent> {
    let plugin = plugin::<C>();
    let inspected = plugin.inspect(C::KIND, C::TYPE, &config)?;
    let inspected = inspected.map_err(|error| anyhow!("option `{}`: {}", error.path.join("."), error.message))?;
    if let Some(problem) = inspected.problems.first() {
        bail!("option `{}`: {}", problem.path.join("."), problem.message);
    }
    let node = NodeId::new(C::KIND, "test");
    let place = BuildPlace { node: &node, device: Device::Cpu, seed: 0, folder: Path::new(".") };
    plugin.build(C::KIND, C::TYPE, &config, &place, ports)
}

macro_rules! of_kind {
    ($name:ident, $variant:ident, $built:ty) => {
        /// As [`build()`], for this kind, without ports.
        ///
        /// # Errors
        /// As [`build()`].
        pub fn $name<C: Component>(config: Value) -> Result<$built> {
            match build::<C>(config, Vec::new())? {
                BuiltComponent::$variant(built) => Ok(Box::new(built)),
                _ => bail!("the component is of kind {}", C::KIND),
            }
        }
    };
}

of_kind!(dataset, Dataset, Box<dyn Dataset>);
of_kind!(transform, Transform, Box<dyn Transform>);
of_kind!(model, Model, Box<dyn Model>);
of_kind!(metric, Metric, Box<dyn Metric>);
of_kind!(handler, Handler, Box<dyn Handler>);
of_kind!(sink, Sink, Box<dyn Sink>);

/// As [`build()`], for a scheduler: its port `optimizer` is filled by the program, which applies the rates.
///
/// # Errors
/// As [`build()`].
pub fn scheduler<C: Component>(config: Value) -> Result<RemoteScheduler> {
    match build::<C>(config, Vec::new())? {
        BuiltComponent::Scheduler(built) => Ok(built),
        _ => bail!("the component is of kind {}", C::KIND),
    }
}

/// As [`build()`], for an optimizer of these parameters of the model `model.test`.
///
/// # Errors
/// As [`build()`].
pub fn optimizer<C: Component>(config: Value, parameters: Vec<(String, tch::Tensor)>) -> Result<RemoteOptimizer> {
    let port = LentPort { node: NodeId::new(crate::Kind::Model, "test"), parameters, dataset: None };
    match build::<C>(config, vec![port])? {
        BuiltComponent::Optimizer(built) => Ok(built),
        _ => bail!("the component is of kind {}", C::KIND),
    }
}

/// The random stream of a sample: the same numbers each time.
pub fn rng(index: u64) -> SampleRng {
    stream(0, Purpose::Sample, 0, index)
}

/// A sample of `height` by `width` bytes with one instance in each of `boxes` (xyxy, whole numbers inside the image).
pub fn sample(height: usize, width: usize, boxes: &[[f32; 4]]) -> Sample {
    let pixels = (0..height * width * 3).map(|i| (i * 7 % 256) as u8).collect();
    let plane = |[x1, y1, x2, y2]: &[f32; 4]| {
        let inside = |i: usize| {
            let (y, x) = ((i / width) as f32, (i % width) as f32);
            (*x1..*x2).contains(&x) && (*y1..*y2).contains(&y)
        };
        (0..height * width).map(|i| u8::from(inside(i))).collect::<Vec<u8>>()
    };
    let planes: Vec<Vec<u8>> = boxes.iter().map(plane).collect();
    let masks = Masks::from_bitmaps(height, width, planes.iter().map(Vec::as_slice));
    let areas = masks.instances.iter().map(|mask| mask.area() as f32).collect();
    Sample::new()
        .with(fields::IMAGE, Field::Image(Image::from_u8(height, width, 3, pixels)))
        .with(fields::BOXES, Field::Boxes(boxes.to_vec()))
        .with(fields::LABELS, Field::Integers((1..=boxes.len() as i64).collect()))
        .with(fields::AREA, Field::Numbers(areas))
        .with(fields::ISCROWD, Field::Integers(vec![0; boxes.len()]))
        .with(fields::MASKS, Field::Masks(masks))
}
