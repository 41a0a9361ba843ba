//! Many findings, ordered by file and position.

use super::{Diagnostic, Severity};

/// Findings of one or more phases. Always sorted by file and position, without repeats.
///
/// Findings without a place come first; at one place, errors come before warnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No findings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one finding; one that says the same about the same place as an earlier one is dropped.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let place = self.items.partition_point(|other| key(other) <= key(&diagnostic));
        let same_place = self.items[..place].iter().rev();
        let repeated = same_place
            .take_while(|other| key(other) == key(&diagnostic))
            .any(|other| other.code == diagnostic.code && other.message == diagnostic.message);
        if !repeated {
            self.items.insert(place, diagnostic);
        }
    }

    /// Adds every finding of `other`.
    pub fn extend(&mut self, other: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in other {
            self.push(diagnostic);
        }
    }

    /// Whether any finding stops the pipeline.
    pub fn has_errors(&self) -> bool {
        self.iter().any(Diagnostic::is_error)
    }

    /// How many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// How many findings there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The findings in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }
}

fn key(diagnostic: &Diagnostic) -> (Option<(super::SourceId, usize, usize)>, Severity) {
    let place = diagnostic.primary.as_ref();
    (place.map(|place| (place.source, place.span.start, place.span.end)), diagnostic.severity)
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { items: vec![diagnostic] }
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(iter: I) -> Self {
        let mut found = Self::new();
        found.extend(iter);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Location, Sources};

    #[test]
    fn findings_are_sorted_and_not_repeated() {
        let mut sources = Sources::default();
        let (first, second) = (sources.add_file("a", "xxxx"), sources.add_file("b", "xxxx"));
        let at = |source, start: usize, text: &str| {
            Diagnostic::error("test", text).at(Location::new(source, start..start + 1))
        };
        let mut found = Diagnostics::new();
        found.push(at(second, 0, "d"));
        found.push(Diagnostic::warning("test", "c").at(Location::new(first, 2..3)));
        found.push(at(first, 2, "b"));
        found.push(at(first, 2, "b"));
        found.push(Diagnostic::error("test", "a"));
        let order: Vec<_> = found.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
        assert!(found.has_errors());
        assert_eq!(found.count(Severity::Warning), 1);
    }
}
