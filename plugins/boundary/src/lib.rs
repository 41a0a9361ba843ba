//! Quality of instance masks, inside and along their boundaries.
//!
//! - [`region`]: overlaps and boundary regions of masks

mod region;

use pipe_plugin::prelude::*;
use pipe_plugin::tch::Kind as Type;

pub use region::{boundary, boundary_width, dice, iou};

/// Dice, mask IoU and boundary IoU of detected objects.
///
/// A model's detections of at least `threshold` are matched in descending order of score; each is matched to the object of its class, not yet matched,
/// with the highest mask IoU, if that is at least `match_iou`. Of each pair are computed: the Dice
/// coefficient 2 |A ∩ B| / (|A| + |B|); the IoU |A ∩ B| / |A ∪ B|; and the boundary IoU (Cheng et al. 2021, "Boundary IoU:
/// Improving Object-Centric Image Segmentation Evaluation"), which is the IoU of the pixels of each mask that are at most
/// `dilation_ratio` times the image diagonal away from its edge. Large objects, whose inside hides a bad edge from the
/// other two, are evaluated by their boundary there.
///
/// Values: `dice`, `iou` and `boundary_iou`, means over all objects but crowds, an undetected object counting 0; and
/// `found`, the fraction of detected objects. NaN without objects. Masks are compared at the size of the model's input.
#[config]
pub struct BoundaryIou {
    /// Score threshold: detections with a lower score are ignored.
    #[serde(default = "half")]
    #[schemars(range(min = 0, max = 1))]
    pub threshold: f64,
    /// Minimum IoU for a detection to match an object.
    #[serde(default = "half")]
    #[schemars(range(min = 0, max = 1))]
    pub match_iou: f64,
    /// Width of the boundary as a fraction of the image diagonal.
    #[serde(default = "ratio")]
    #[schemars(range(min = 0, max = 1))]
    pub dilation_ratio: f64,
}

fn half() -> f64 {
    0.5
}

fn ratio() -> f64 {
    0.02
}

impl Config for BoundaryIou {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "boundary_iou";
    const EXAMPLE: &'static str = r#"
[metric.boundary]
type = "boundary_iou"
threshold = 0.5
"#;

    fn contract(&self) -> Contract {
        let fields = [fields::LABELS, fields::MASKS, fields::DETECTIONS, fields::DETECTION_MASKS];
        Contract::default().needs(fields)
    }

    fn values(&self) -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }
}

impl Component for BoundaryIou {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::metric(Boundary { config: self, sums: [0.0; 4], objects: 0 }))
    }
}

const NAMES: [&str; 4] = ["dice", "iou", "boundary_iou", "found"];

/// The running metric.
struct Boundary {
    config: BoundaryIou,
    /// Sums over objects, in the order of [`NAMES`].
    sums: [f64; 4],
    objects: u64,
}

/// The objects of one image, or what was found in it.
struct Masks01 {
    /// `[N]` i64, on the CPU.
    labels: Vec<i64>,
    /// `[N, H, W]` bool.
    masks: Tensor,
}

impl Boundary {
    fn judge(&mut self, truth: &Masks01, found: &Masks01) -> Result<()> {
        let (_, height, width) = truth.masks.size3()?;
        let reach = boundary_width(height, width, self.config.dilation_ratio);
        let mut free: Vec<usize> = (0..truth.labels.len()).collect();
        for (i, label) in found.labels.iter().enumerate() {
            let rivals: Vec<usize> = free.iter().copied().filter(|&object| truth.labels[object] == *label).collect();
            let mask = found.masks.get(i as i64);
            let mut best = (self.config.match_iou, None);
            for object in rivals {
                let overlap = iou(&mask, &truth.masks.get(object as i64))?;
                // The first of equals, as they are in the annotations.
                if overlap > best.0 || best.1.is_none() && overlap >= best.0 {
                    best = (overlap, Some(object));
                }
            }
            let (overlap, Some(object)) = best else { continue };
            free.retain(|&other| other != object);
            let own = truth.masks.get(object as i64);
            let edges = iou(&boundary(&mask, reach)?, &boundary(&own, reach)?)?;
            let values = [dice(&mask, &own)?, overlap, edges, 1.0];
            self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        self.objects += truth.labels.len() as u64;
        Ok(())
    }

    fn found(&self, found: &Detections, size: [i64; 2]) -> Result<Masks01> {
        let good = found.scores.f_ge(self.config.threshold)?.nonzero().flatten(0, -1);
        let masks = found.masks.as_ref().context("the model's detections have no masks")?;
        let masks = masks.f_index_select(0, &good)?.f_squeeze_dim(1)?.f_gt(0.5)?;
        let (_, height, width) = masks.size3()?;
        ensure!([height, width] == size, "masks of {height} by {width} were found in a picture of {size:?}");
        Ok(Masks01 { labels: numbers(&found.labels.f_index_select(0, &good)?)?, masks })
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<i64>> {
    Ok(tensor.to_device(Device::Cpu).to_kind(Type::Int64).try_into()?)
}

/// The objects of an image that are no crowds.
fn objects(labels: &Tensor, masks: &Tensor, crowd: Option<&Tensor>) -> Result<Masks01> {
    let masks = masks.f_gt(0)?;
    let Some(crowd) = crowd else { return Ok(Masks01 { labels: numbers(labels)?, masks }) };
    let single = crowd.f_eq(0)?.nonzero().flatten(0, -1);
    Ok(Masks01 { labels: numbers(&labels.f_index_select(0, &single)?)?, masks: masks.f_index_select(0, &single)? })
}

impl Metric for Boundary {
    fn reset(&mut self) {
        (self.sums, self.objects) = ([0.0; 4], 0);
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let Some(BatchField::Detections(all)) = output.outputs.get(fields::DETECTIONS) else {
            bail!("the model's output has no field `{}`", fields::DETECTIONS);
        };
        let (labels, masks) = (batch.list(fields::LABELS)?, batch.list(fields::MASKS)?);
        ensure!([labels.len(), masks.len()] == [all.len(); 2], "{} pictures, {} detections", labels.len(), all.len());
        let crowds = if batch.get(fields::ISCROWD).is_some() { batch.list(fields::ISCROWD)? } else { Vec::new() };
        for (i, found) in all.iter().enumerate() {
            let truth = objects(&labels[i], &masks[i], crowds.get(i))?;
            let (_, height, width) = truth.masks.size3()?;
            let found = self.found(found, [height, width]).with_context(|| batch.sources()[i].clone())?;
            self.judge(&truth, &found)?;
        }
        Ok(())
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        let (sums, objects) = saved(other)?;
        self.sums.iter_mut().zip(sums).for_each(|(own, sum)| *own += sum);
        self.objects += objects;
        Ok(())
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let mean = |sum: f64| sum / self.objects as f64;
        let values = NAMES.iter().zip(self.sums).map(|(name, sum)| ((*name).to_owned(), mean(sum))).collect();
        Ok(MetricReport { values, ..MetricReport::default() })
    }
}

impl Stateful for Boundary {
    fn state(&self) -> Result<State> {
        State::of(&json!({ "sums": self.sums, "objects": self.objects }))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        (self.sums, self.objects) = saved(state)?;
        Ok(())
    }
}

/// The sums and the number of objects of a state.
fn saved(state: &State) -> Result<([f64; 4], u64)> {
    let saved = Value::Object(state.values.clone());
    let sums = pipe_plugin::serde_json::from_value(saved["sums"].clone())?;
    Ok((sums, pipe_plugin::serde_json::from_value(saved["objects"].clone())?))
}

pipe_plugin::export! { BoundaryIou }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::metric;

    use super::*;

    /// Masks `[N, 40, 60]` of rectangles (x1, y1, x2, y2).
    fn rectangles(boxes: &[[i64; 4]]) -> Tensor {
        let masks = Tensor::zeros([boxes.len() as i64, 40, 60], (Type::Uint8, Device::Cpu));
        for (i, [x1, y1, x2, y2]) in boxes.iter().enumerate() {
            let _ = masks.get(i as i64).narrow(0, *y1, y2 - y1).narrow(1, *x1, x2 - x1).fill_(1);
        }
        masks
    }

    fn batch(labels: &[i64], boxes: &[[i64; 4]], crowd: &[i64]) -> Batch {
        let mut batch = Batch::new(1);
        batch.set(fields::LABELS, BatchField::List(vec![Tensor::from_slice(labels)]));
        batch.set(fields::MASKS, BatchField::List(vec![rectangles(boxes)]));
        batch.set(fields::ISCROWD, BatchField::List(vec![Tensor::from_slice(crowd)]));
        batch
    }

    fn output(labels: &[i64], scores: &[f32], boxes: &[[i64; 4]]) -> ModelOutput {
        let masks = Some(rectangles(boxes).unsqueeze(1).to_kind(Type::Float) * 0.9);
        let boxes = Tensor::zeros([labels.len() as i64, 4], (Type::Float, Device::Cpu));
        let found = Detections::new(boxes, Tensor::from_slice(labels), Tensor::from_slice(scores));
        let found = Detections { masks, ..found };
        let mut outputs = Batch::new(1);
        outputs.set(fields::DETECTIONS, BatchField::Detections(vec![found]));
        ModelOutput { outputs, ..ModelOutput::default() }
    }

    fn values(report: &MetricReport) -> [f64; 4] {
        [0, 1, 2, 3].map(|i| report.values[i].1)
    }

    #[test]
    fn pairs_are_judged_and_objects_that_are_missed_count_nothing() {
        let mut metric = metric::<BoundaryIou>(json!({ "dilation_ratio": 0.02 })).unwrap();
        assert!(values(&metric.compute().unwrap()).iter().all(|value| value.is_nan()));
        let truth =
            batch(&[1, 2, 1, 1], &[[0, 0, 20, 20], [30, 10, 50, 30], [0, 30, 10, 40], [55, 0, 60, 5]], &[0, 0, 0, 1]);
        // The first is right, the second of the wrong class, the third too low in score, the fourth one column off.
        let boxes = [[0, 0, 20, 20], [0, 30, 10, 40], [0, 30, 10, 40], [31, 10, 51, 30]];
        metric.update(&truth, &output(&[1, 2, 1, 2], &[0.9, 0.8, 0.4, 0.7], &boxes)).unwrap();
        // 400 pixels each, 380 in common. The diagonal is 72.1, so the edge is one pixel wide: 76 pixels each, of which
        // 19 + 19 lie in the common columns' first and last rows, none in the columns at the sides.
        let iou = 380.0 / 420.0;
        let edges = 38.0 / (76.0 + 76.0 - 38.0);
        let expected = [(1.0 + 0.95) / 3.0, (1.0 + iou) / 3.0, (1.0 + edges) / 3.0, 2.0 / 3.0];
        let got = values(&metric.compute().unwrap());
        assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-9), "{got:?} {expected:?}");

        let mut resumed = pipe_plugin::testing::metric::<BoundaryIou>(json!({})).unwrap();
        resumed.load_state(&metric.state().unwrap()).unwrap();
        assert_eq!(values(&resumed.compute().unwrap()), got);
        resumed.merge(&metric.state().unwrap()).unwrap();
        assert!(values(&resumed.compute().unwrap()).iter().zip(got).all(|(twice, once)| (twice - once).abs() < 1e-12));
        resumed.reset();
        assert!(values(&resumed.compute().unwrap())[0].is_nan());
    }

    #[test]
    fn each_object_is_taken_once_and_by_the_best() {
        let mut metric = metric::<BoundaryIou>(json!({})).unwrap();
        let truth = batch(&[1, 1], &[[0, 0, 20, 20], [2, 0, 22, 20]], &[0, 0]);
        let boxes = [[2, 0, 22, 20], [1, 0, 21, 20], [0, 0, 20, 20]];
        metric.update(&truth, &output(&[1, 1, 1], &[0.9, 0.8, 0.7], &boxes)).unwrap();
        let [dice, _, _, found] = values(&metric.compute().unwrap());
        assert_eq!((dice, found), ((1.0 + 0.95) / 2.0, 1.0));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut metric = metric::<BoundaryIou>(json!({})).unwrap();
        let truth = batch(&[1], &[[0, 0, 20, 20]], &[0]);
        let error = metric.update(&truth, &ModelOutput::default()).unwrap_err().to_string();
        assert!(error.contains("`detections`"), "{error}");
        let error = metric.update(&Batch::new(1), &output(&[1], &[0.9], &[[0, 0, 9, 9]])).unwrap_err().to_string();
        assert!(error.contains("`labels`"), "{error}");
    }
}
