//! Confusion matrix.

use std::fmt::Write;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::cells;

use super::counts::{Counts, Form, logits_and_labels};
use pipe_core::facts::{Better, Facts};
use pipe_core::{
    BuildContext, Component, Config, Contract, Dataset, Instance, Kind, ModelOutput, Ref, State, Stateful,
};
use pipe_core::{Metric, MetricReport, RecordValue};
use pipe_data::{Batch, fields};

/// The confusion matrix of a classifier, as text and as a record.
///
/// Up to 20 classes it is a table with a row per label and a column per prediction, recall and precision in the margins; with
/// more classes the most frequent confusions are listed. Values: `accuracy`, and `balanced_accuracy`, the mean recall of
/// the classes that occur as labels.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfusionMatrixConfig {
    /// The dataset whose class names are shown; without it, class numbers are shown.
    #[serde(default)]
    pub dataset: Option<Ref<dyn Dataset>>,
}

impl Config for ConfusionMatrixConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "confusion_matrix";
    const EXAMPLE: &'static str = r#"
[metric.confusion]
type = "confusion_matrix"
"#;

    fn facts(&self) -> Facts {
        Facts::of_values(self.values(), Better::Higher)
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::LOGITS, fields::LABEL])
    }

    fn values(&self) -> Vec<String> {
        vec!["accuracy".to_owned(), "balanced_accuracy".to_owned()]
    }
}

impl Component for ConfusionMatrixConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let names = match &self.dataset {
            Some(dataset) => ctx.get(dataset)?.class_names(),
            None => Vec::new(),
        };
        Ok(Instance::metric(ConfusionMatrix { counts: Counts::new(Form::Matrix), names }))
    }
}

pipe_core::register!(ConfusionMatrixConfig);

/// Maximum number of classes for a readable table.
const MOST_CLASSES: usize = 20;

struct ConfusionMatrix {
    counts: Counts,
    names: Vec<(i64, String)>,
}

impl ConfusionMatrix {
    fn plain_name(&self, class: usize) -> String {
        let named = self.names.iter().find(|(label, _)| *label == class as i64);
        named.map_or_else(|| class.to_string(), |(_, name)| name.clone())
    }

    fn name(&self, class: usize) -> String {
        // A bar would end the cell of a Markdown table.
        self.plain_name(class).replace('|', "\\|")
    }

    fn table(&self, rows: &[Vec<f64>]) -> String {
        let percent =
            |part: f64, whole: f64| if whole > 0.0 { format!("{:.1} %", 100.0 * part / whole) } else { "–".into() };
        let mut text = String::from("| label \\ prediction |");
        (0..rows.len()).for_each(|c| text += &format!(" {} |", self.name(c)));
        text += " recall |\n|---|";
        text += &"--:|".repeat(rows.len() + 1);
        for (label, row) in rows.iter().enumerate() {
            let _ = write!(text, "\n| {} |", self.name(label));
            row.iter().for_each(|count| text += &format!(" {count} |"));
            let _ = write!(text, " {} |", percent(row[label], row.iter().sum()));
        }
        text += "\n| precision |";
        for class in 0..rows.len() {
            let predicted = rows.iter().map(|row| row[class]).sum();
            let _ = write!(text, " {} |", percent(rows[class][class], predicted));
        }
        text + " |\n"
    }

    fn list(&self, rows: &[Vec<f64>]) -> String {
        let wrong = rows
            .iter()
            .enumerate()
            .flat_map(|(label, row)| row.iter().enumerate().map(move |(predicted, count)| (*count, label, predicted)));
        let mut wrong: Vec<_> = wrong.filter(|(count, label, predicted)| *count > 0.0 && label != predicted).collect();
        wrong.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut text = String::from("| label | prediction | samples | of the label |\n|---|---|--:|--:|");
        for (count, label, predicted) in wrong.into_iter().take(MOST_CLASSES) {
            let share = 100.0 * count / rows[label].iter().sum::<f64>();
            let _ = write!(text, "\n| {} | {} | {count} | {share:.1} % |", self.name(label), self.name(predicted));
        }
        text + "\n"
    }
}

impl Metric for ConfusionMatrix {
    fn reset(&mut self) {
        self.counts.reset();
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let (logits, label) = logits_and_labels(batch, output)?;
        self.counts.update(&logits.argmax(1, false), &label, logits.size()[1], None)
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        self.counts.merge(other)
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let rows = self.counts.rows()?.unwrap_or_default();
        let right: f64 = rows.iter().enumerate().map(|(c, row)| row[c]).sum();
        let recalls = rows.iter().enumerate().map(|(c, row)| row[c] / row.iter().sum::<f64>());
        let recalls: Vec<f64> = recalls.filter(|recall| !recall.is_nan()).collect();
        let values = vec![
            ("accuracy".to_owned(), right / rows.iter().flatten().sum::<f64>()),
            ("balanced_accuracy".to_owned(), recalls.iter().sum::<f64>() / recalls.len() as f64),
        ];
        let text = match rows.len() {
            0 => None,
            n if n <= MOST_CLASSES => Some(self.table(&rows)),
            _ => Some(self.list(&rows)),
        };
        let counts: Vec<Vec<u32>> = rows.iter().map(|row| row.iter().map(|count| *count as u32).collect()).collect();
        let matrix = || {
            let names = (0..rows.len()).map(|class| self.plain_name(class)).collect();
            ("matrix".to_owned(), RecordValue::Confusion { names, cells: cells(&counts) })
        };
        let records = if rows.is_empty() { Vec::new() } else { vec![matrix()] };
        Ok(MetricReport { values, text, records })
    }
}

impl Stateful for ConfusionMatrix {
    fn state(&self) -> Result<State> {
        Ok(self.counts.state())
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.counts.load_state(state)
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    fn matrix(classes: i64, pairs: &[(i64, i64)], names: Vec<(i64, String)>) -> MetricReport {
        let (label, predicted): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
        let mut metric = ConfusionMatrix { counts: Counts::new(Form::Matrix), names };
        metric.counts.update(&Tensor::from_slice(&predicted), &Tensor::from_slice(&label), classes, None).unwrap();
        metric.compute().unwrap()
    }

    #[test]
    fn few_classes_are_a_table() {
        let report = matrix(3, &[(0, 0), (0, 0), (0, 1), (1, 1)], vec![(0, "cat".into()), (1, "a|b".into())]);
        insta::assert_snapshot!(report.text.unwrap(), @r"
        | label \ prediction | cat | a\|b | 2 | recall |
        |---|--:|--:|--:|--:|
        | cat | 2 | 1 | 0 | 66.7 % |
        | a\|b | 0 | 1 | 0 | 100.0 % |
        | 2 | 0 | 0 | 0 | – |
        | precision | 100.0 % | 50.0 % | – | |
        ");
        assert_eq!(report.values[0], ("accuracy".to_owned(), 0.75));
        assert!((report.values[1].1 - 5.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn many_classes_are_a_list_of_the_worst() {
        let report = matrix(30, &[(3, 7), (3, 7), (3, 3), (29, 0), (5, 5)], Vec::new());
        insta::assert_snapshot!(report.text.unwrap(), @r"
        | label | prediction | samples | of the label |
        |---|---|--:|--:|
        | 3 | 7 | 2 | 66.7 % |
        | 29 | 0 | 1 | 100.0 % |
        ");
    }
}
