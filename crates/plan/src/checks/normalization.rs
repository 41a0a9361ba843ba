//! Normalization of pixels: once, and everywhere the same.

use super::rule::Findings;
use super::view::{Engine, View};
use pipe_document::diagnostic::{Location, Severity};
use pipe_vocab::NodeId;
use pipe_vocab::facts::{Normalization, Role};

/// An engine, its model's own normalization and that of its loader, where everything is known.
struct Chain<'a> {
    engine: Engine<'a>,
    model: &'a NodeId,
    /// The steps that normalize, and where.
    steps: Vec<(Normalization, Location)>,
    /// Whether a step may normalize without saying so.
    unknown: bool,
}

fn chains<'a>(view: &View<'a>) -> Vec<Chain<'a>> {
    let engines = view.engines(Role::Trains).into_iter().chain(view.engines(Role::Evaluates));
    let chains = engines.filter_map(|engine| {
        let (model, loader) = (&engine.model?.from, &engine.loader?.from);
        let all = view.steps(loader);
        let dataset = engine.dataset.is_none_or(|edge| view.facts(&edge.from).unknown);
        let unknown = dataset || view.facts(loader).unknown || all.iter().any(|step| step.facts.unknown);
        let steps = all.into_iter().filter_map(|step| Some((step.facts.normalizes?, step.location))).collect();
        Some(Chain { engine, model, steps, unknown })
    });
    chains.collect()
}

/// Whether it changes pixels at all.
fn is_identity(normalization: &Normalization) -> bool {
    normalization.mean.iter().all(|mean| *mean == 0.0) && normalization.std.iter().all(|std| *std == 1.0)
}

/// Twice in one chain, or before a model that does it itself.
pub(super) fn twice(view: &View<'_>, found: &mut Findings) {
    for chain in chains(view) {
        let models = view.with_inner(chain.model);
        let own = models.iter().find(|model| {
            let normalizes = view.facts(model).normalizes.as_ref();
            normalizes.is_some_and(|own| !is_identity(own))
                && view.is_known(model, "image_mean")
                && view.is_known(model, "image_std")
        });
        let pretrained = models.iter().any(|model| view.facts(model).weights.is_some());
        let (message, at) = match (chain.steps.as_slice(), own) {
            ([(_, first), ..], Some(model)) => {
                (format!("`{model}` normalizes images itself, so they are normalized twice"), first.clone())
            }
            ([_, (_, second), ..], None) => {
                ("these images are normalized already, so they are normalized twice".into(), second.clone())
            }
            _ => continue,
        };
        let diagnostic = found.add(at, message, "remove this step");
        if pretrained {
            diagnostic.severity = Severity::Error;
        }
    }
}

/// ImageNet's standard deviations, which stand for the means where both are swapped.
const STD_OF_IMAGENET: [f64; 3] = [0.229, 0.224, 0.225];

/// Numbers that are no mean and standard deviation of pixels between 0 and 1.
pub(super) fn unusual(view: &View<'_>, found: &mut Findings) {
    let mut told = Vec::new();
    for (Normalization { mean, std }, at) in chains(view).into_iter().flat_map(|chain| chain.steps) {
        let (message, help) = if mean.iter().chain(&std).any(|value| *value > 1.0) {
            ("these are means and deviations of pixels from 0 to 255, but pixels are from 0 to 1", "divide them by 255")
        } else if mean == STD_OF_IMAGENET.map(|value| f64::from(value as f32)) {
            ("the means are ImageNet's standard deviations", "swap `mean` and `std`")
        } else {
            continue;
        };
        if !told.contains(&at) {
            found.add(at.clone(), message, help);
            told.push(at);
        }
    }
}

/// Weights that want normalized images get others.
pub(super) fn missing(view: &View<'_>, found: &mut Findings) {
    for chain in chains(view).into_iter().filter(|chain| chain.steps.is_empty() && !chain.unknown) {
        let wanting = view.with_inner(chain.model).into_iter().find(|model| view.facts(model).wants_normalized);
        let (Some(model), Some(loader)) = (wanting, chain.engine.loader) else { continue };
        let message = format!(
            "`{}` gives `{model}` images that are not normalized, but pretrained weights want them as they were trained with",
            loader.from
        );
        let help = "add a step to its transform: { type = \"normalize\", mean = [0.485, 0.456, 0.406], std = [0.229, \
                    0.224, 0.225] } for ImageNet's";
        found.add(view.place(&loader.from, &[]), message, help);
    }
}

/// Trained with one normalization, evaluated with another.
pub(super) fn differs(view: &View<'_>, found: &mut Findings) {
    let (trainings, evaluations): (Vec<_>, Vec<_>) = chains(view)
        .into_iter()
        .filter(|chain| !chain.unknown)
        .partition(|chain| view.facts(chain.engine.id).role == Some(Role::Trains));
    for evaluation in &evaluations {
        let of_model = |training: &&Chain<'_>| view.related(training.model, evaluation.model);
        let trained: Vec<_> = trainings.iter().filter(of_model).collect();
        let Some(first) = trained.first().filter(|_| !trained.iter().any(|one| alike(&one.steps, &evaluation.steps)))
        else {
            continue;
        };
        let Some(loader) = evaluation.engine.loader else { continue };
        let at = evaluation.steps.first().map_or_else(|| view.place(&loader.from, &[]), |(_, at)| at.clone());
        let message = format!(
            "`{}` normalizes images otherwise than `{}`, with which the model is trained",
            evaluation.engine.id, first.engine.id
        );
        let other = first.steps.first().map(|(_, at)| at.clone());
        let diagnostic = found.add(at, message, "use the same `mean` and `std` in both");
        diagnostic.labels.extend(other.map(|at| (at, "in training".to_owned())));
    }
}

fn alike(a: &[(Normalization, Location)], b: &[(Normalization, Location)]) -> bool {
    let numbers = |a: &[f64], b: &[f64]| {
        let length = a.len().max(b.len());
        let at = |all: &[f64], i: usize| all.get(i % all.len().max(1)).copied();
        (0..length).all(|i| at(a, i) == at(b, i))
    };
    a.len() == b.len() && a.iter().zip(b).all(|((a, _), (b, _))| numbers(&a.mean, &b.mean) && numbers(&a.std, &b.std))
}
