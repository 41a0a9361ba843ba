//! What metrics measured, for people: a line for each evaluation, tables for the end.

use pipe_core::record::short;
use pipe_core::{Evaluation, NodeId, ValueRef};

use super::table::{aligned, laid_out};

/// A metric with more values is told by the first ones of each group.
const ALL: usize = 4;

/// So many of each group.
const FIRST: usize = 2;

/// An evaluation in one line: the headline values of each metric, and the best so far of those that are monitored.
pub fn line(evaluation: &Evaluation) -> String {
    let name = |value: &ValueRef| short_name(value, &evaluation.values);
    let mut text = String::new();
    for (value, measured) in headline(&evaluation.values) {
        text += &format!("  {} = {}", name(value), short(measured));
    }
    for best in &evaluation.best {
        let at = best.epoch.map_or_else(|| format!("step {}", best.step), |epoch| format!("epoch {epoch}"));
        text += &format!("  (best {} = {} at {at})", name(&best.monitor), short(best.value));
    }
    text
}

/// Of each metric the values that count: all where they are few, otherwise the first of each group (`bbox/`, `segm/`). Those of
/// single classes never.
fn headline(values: &[(ValueRef, f64)]) -> Vec<(&ValueRef, f64)> {
    let mut chosen = Vec::new();
    for metric in metrics(values) {
        let of_metric = values.iter().filter(|(value, _)| value.node == *metric);
        let all: Vec<_> = of_metric.filter(|(value, _)| whole_of(value, values).is_none()).collect();
        let group = |value: &ValueRef| value.value.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        for (place, (value, measured)) in all.iter().enumerate() {
            let before = all[..place].iter().filter(|(other, _)| group(other) == group(value)).count();
            if all.len() <= ALL || before < FIRST {
                chosen.push((value, *measured));
            }
        }
    }
    chosen
}

/// The metrics, each once, in their order.
fn metrics(values: &[(ValueRef, f64)]) -> Vec<&NodeId> {
    let mut metrics: Vec<&NodeId> = values.iter().map(|(value, _)| &value.node).collect();
    metrics.dedup();
    metrics
}

/// The value of which this one is a part: `bbox/AP` of `bbox/AP/cat`.
fn whole_of<'v>(part: &ValueRef, values: &'v [(ValueRef, f64)]) -> Option<&'v str> {
    let is_whole = |whole: &str| part.value.strip_prefix(whole).is_some_and(|rest| rest.starts_with('/'));
    values
        .iter()
        .filter(|(value, _)| value.node == part.node)
        .map(|(value, _)| &*value.value)
        .find(|whole| is_whole(whole))
}

/// A value's name beside others: its own if the metric has several and no other metric one of that name, the metric's if it has one.
fn short_name(value: &ValueRef, values: &[(ValueRef, f64)]) -> String {
    let alone = values.iter().filter(|(other, _)| other.node == value.node).count() == 1;
    let shared = values.iter().any(|(other, _)| other.node != value.node && other.value == value.value);
    match (alone, shared) {
        (true, _) => value.node.name.to_string(),
        (false, false) => value.value.clone(),
        (false, true) => format!("{}/{}", value.node.name, value.value),
    }
}

/// The last values and texts at the end: each metric by its text (the table of COCO, a confusion matrix) if it has one, otherwise by
/// its values; values of single classes in a table.
pub fn tables(values: &[(ValueRef, f64)], texts: &[(NodeId, String)]) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for (metric, text) in texts.iter().filter(|(metric, _)| values.iter().any(|(value, _)| value.node == *metric)) {
        blocks.push(format!("{metric}\n{}", laid_out(text)));
    }
    for metric in metrics(values) {
        let of_metric = |(value, _): &&(ValueRef, f64)| value.node == *metric;
        let parts = values.iter().filter(of_metric).filter_map(|(value, measured)| {
            let whole = whole_of(value, values)?;
            Some((value.value[whole.len() + 1..].to_owned(), whole.to_owned(), *measured))
        });
        blocks.extend(table_of_parts(metric, &parts.collect::<Vec<_>>()));
    }
    let untold = values.iter().filter(|(value, _)| {
        !texts.iter().any(|(metric, _)| *metric == value.node) && whole_of(value, values).is_none()
    });
    let rows: Vec<Vec<String>> = untold.map(|(value, measured)| vec![value.to_string(), short(*measured)]).collect();
    if !rows.is_empty() {
        blocks.push(aligned(&rows).join("\n"));
    }
    blocks.join("\n\n")
}

/// Values of single classes: a row a class, a column a value.
fn table_of_parts(metric: &NodeId, parts: &[(String, String, f64)]) -> Option<String> {
    let (mut classes, mut wholes) = (Vec::new(), Vec::new());
    for (class, whole, _) in parts {
        if !classes.contains(&class) {
            classes.push(class);
        }
        if !wholes.contains(&whole) {
            wholes.push(whole);
        }
    }
    if classes.is_empty() {
        return None;
    }
    let mut rows = vec![vec![metric.to_string()]];
    rows[0].extend(wholes.iter().map(|whole| (*whole).clone()));
    for class in classes {
        let measured = |whole: &&String| parts.iter().find(|(c, w, _)| c == class && w == *whole);
        let cells = wholes.iter().map(|whole| measured(whole).map_or_else(String::new, |(_, _, value)| short(*value)));
        rows.push(std::iter::once(class.clone()).chain(cells).collect());
    }
    Some(aligned(&rows).join("\n"))
}

#[cfg(test)]
mod tests {
    use pipe_core::Best;

    use super::*;

    fn values(all: &[(&str, f64)]) -> Vec<(ValueRef, f64)> {
        all.iter().map(|(name, value)| (serde_json::from_value((*name).into()).unwrap(), *value)).collect()
    }

    fn coco() -> Vec<(ValueRef, f64)> {
        values(&[
            ("metric.coco:bbox/AP", 0.412),
            ("metric.coco:bbox/AP50", 0.613),
            ("metric.coco:bbox/AP75", 0.44),
            ("metric.coco:segm/AP", 0.388),
            ("metric.coco:segm/AP50", 0.59),
            ("metric.coco:segm/AP75", 0.43),
            ("metric.coco:bbox/AP/cat", 0.5),
            ("metric.coco:bbox/AP/dog", 0.3),
            ("metric.coco:segm/AP/cat", 0.4),
        ])
    }

    #[test]
    fn an_evaluation_is_a_line() {
        let told = |values: Vec<(ValueRef, f64)>, best: Vec<Best>| {
            line(&Evaluation { engine: None, step: 7, epoch: 3, values, best })
        };
        let monitor = coco()[3].0.clone();
        let best = vec![Best { monitor, value: 0.4, step: 5, epoch: Some(2) }];
        assert_eq!(
            told(coco(), best),
            "  bbox/AP = 0.4120  bbox/AP50 = 0.6130  segm/AP = 0.3880  segm/AP50 = 0.5900  (best segm/AP = 0.4000 at epoch 2)"
        );
        let several = values(&[
            ("metric.acc:accuracy", 0.9),
            ("metric.confusion:accuracy", 0.9),
            ("metric.confusion:balanced_accuracy", 0.8),
        ]);
        let best = vec![Best { monitor: several[0].0.clone(), value: 0.9, step: 5, epoch: None }];
        assert_eq!(
            told(several, best),
            "  acc = 0.9000  confusion/accuracy = 0.9000  balanced_accuracy = 0.8000  (best acc = 0.9000 at step 5)"
        );
    }

    #[test]
    fn at_the_end_each_number_is_told_once() {
        let mut all = coco();
        all.extend(values(&[("metric.loss:loss", 0.25)]));
        let metric = |name: &str| name.parse::<NodeId>().unwrap();
        let texts = [(metric("metric.coco"), " AP = 0.412\n".to_owned()), (metric("metric.gone"), "old".to_owned())];
        insta::assert_snapshot!(tables(&all, &texts));
    }
}
