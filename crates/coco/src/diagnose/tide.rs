//! Errors by kind, and what each kind costs (TIDE: A General Toolbox for Identifying Object Detection Errors, Bolya et al. 2020).

use anyhow::Result;
use serde::Serialize;

use super::lines::{Line, kept};
use crate::eval::{ErrorKind, State, average_precision, falling};
use crate::parallel::parallel;

/// Errors at IoU 0.5 and 0.1, counted as the crate hotcoco does.
///
/// A cost is how much the average precision at IoU 0.5, the mean over the categories that have objects, would rise if all errors of a
/// kind were mended and no others: a detection localized or classified wrong becomes right where no other of a higher score would find that
/// object, and is taken away where one would; duplicates, detections on the background and those wrong in both are taken away; missed
/// objects no longer count. As the mending of one kind leaves the others, costs do not add up to 1.
///
/// Two differences to the package `tidecv`: it keeps the 100 highest scores of an image and not of an image and category, and overlap
/// with a crowd of less than 0.5 is no localization error there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tide {
    /// Average precision at IoU 0.5.
    pub ap50: f64,
    /// `Cls`, `Loc`, `Both`, `Dupe`, `Bkg`, `Miss`.
    pub errors: Vec<KindOfError>,
    /// What all false positives cost: precision were perfect, recall as it is.
    pub false_positives: f64,
    /// What all objects not found cost: recall were perfect, precision as it is. More objects than `Miss`, which leaves out those that a
    /// detection would find without its error.
    pub false_negatives: f64,
}

/// One kind of error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindOfError {
    /// TIDE's name.
    pub kind: &'static str,
    /// How many there are, of all categories.
    pub count: usize,
    /// What they cost.
    pub delta_ap: f64,
}

const KINDS: [(ErrorKind, &str); 5] = [
    (ErrorKind::Cls, "Cls"),
    (ErrorKind::Loc, "Loc"),
    (ErrorKind::Both, "Both"),
    (ErrorKind::Dupe, "Dupe"),
    (ErrorKind::Bkg, "Bkg"),
];

pub(super) fn tide(lines: &[Line], state: &State) -> Result<Tide> {
    // Scores of detections of other categories that would be right here.
    let mut incoming: Vec<Vec<f64>> = vec![Vec::new(); lines.len()];
    for (k, line) in lines.iter().enumerate() {
        for found in line.found.iter().filter(|found| found.error == Some(ErrorKind::Cls)) {
            let Some(id) = found.mended else { continue };
            if let Ok(other) = lines.binary_search_by_key(&id, |line| line.id) {
                debug_assert_ne!(k, other);
                incoming[other].push(found.score);
            }
        }
    }
    let present: Vec<(&Line, Vec<f64>)> = (lines.iter().zip(incoming))
        .filter(|(line, _)| line.truths > 0)
        .map(|(line, mut scores)| {
            scores.sort_by(|a, b| falling(*a, *b));
            (line, scores)
        })
        .collect();
    let costs = parallel(&present, |(line, incoming)| costs(line, incoming));
    let mean = |of: fn(&Costs) -> f64| match costs.len() {
        0 => 0.0,
        count => costs.iter().map(of).sum::<f64>() / count as f64,
    };
    let count = |kind| lines.iter().flat_map(|line| &line.found).filter(|found| found.error == Some(kind)).count();
    let mean_of = |at: usize| costs.iter().map(|costs| costs.kinds[at]).sum::<f64>() / costs.len().max(1) as f64;
    let kinds = KINDS.iter().enumerate();
    let mut errors: Vec<KindOfError> = kinds
        .map(|(at, &(kind, name))| KindOfError { kind: name, count: count(kind), delta_ap: mean_of(at) })
        .collect();
    let mut missed = 0;
    for image in state.images.values() {
        missed += kept(&image.errors)?.missed.len();
    }
    errors.push(KindOfError { kind: "Miss", count: missed, delta_ap: mean(|costs| costs.missed) });
    let (false_positives, false_negatives) = (mean(|costs| costs.false_positives), mean(|costs| costs.false_negatives));
    Ok(Tide { ap50: mean(|costs| costs.ap), errors, false_positives, false_negatives })
}

/// What the errors cost one category.
struct Costs {
    ap: f64,
    kinds: [f64; KINDS.len()],
    missed: f64,
    false_positives: f64,
    false_negatives: f64,
}

fn costs(line: &Line, incoming: &[f64]) -> Costs {
    let counting = || line.found.iter().filter(|found| !found.ignored);
    let ap_of = |truths: u32| match truths {
        0 => 0.0,
        truths => average_precision(counting().map(|found| found.right), truths),
    };
    let ap = ap_of(line.truths);
    let right = counting().filter(|found| found.right).count();
    let only_right = average_precision(std::iter::repeat_n(true, right), line.truths);
    Costs {
        ap,
        kinds: KINDS.map(|(kind, _)| {
            let mended = mended(line, kind, if kind == ErrorKind::Cls { incoming } else { &[] });
            average_precision(mended.into_iter(), line.truths) - ap
        }),
        missed: ap_of(line.truths.saturating_sub(line.missed)) - ap,
        false_positives: only_right - ap,
        false_negatives: ap_of(right as u32) - ap,
    }
}

/// The detections that count, without the errors of a kind.
fn mended(line: &Line, kind: ErrorKind, incoming: &[f64]) -> Vec<bool> {
    let mut incoming = incoming.iter().peekable();
    let mut mended = Vec::with_capacity(line.found.len());
    for found in line.found.iter() {
        while incoming.next_if(|score| **score > found.score).is_some() {
            mended.push(true);
        }
        match found.error == Some(kind) {
            true if kind == ErrorKind::Loc && found.mended.is_some() => mended.push(true),
            true => {}
            false if !found.ignored => mended.push(found.right),
            false => {}
        }
    }
    mended.extend(incoming.map(|_| true));
    mended
}
