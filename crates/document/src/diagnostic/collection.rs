//! Many findings, ordered by file and position.

use super::{Diagnostic, Location, Severity};

/// Findings beyond this many are only counted: nobody reads so far, and hostile text has millions.
const LIMIT: usize = 1000;

/// Findings of one or more phases. Always sorted by file and position, without repeats.
///
/// Findings without a place come first; at one place, errors come before warnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    /// Errors that were only counted.
    dropped: usize,
    muted: Vec<Location>,
}

impl Diagnostics {
    /// No findings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one finding; one that says the same about the same place as an earlier one is dropped.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.dropped += usize::from(diagnostic.is_error());
            return;
        }
        if self.is_muted(&diagnostic) {
            return;
        }
        let place = self.items.partition_point(|other| key(other) <= key(&diagnostic));
        let same_place = self.items[..place].iter().rev();
        let repeated = same_place
            .take_while(|other| key(other) == key(&diagnostic))
            .any(|other| other.code == diagnostic.code && other.message == diagnostic.message);
        if !repeated {
            self.items.insert(place, diagnostic);
        }
    }

    /// Whether further findings are only counted: then it is not worth while to look for what they could say.
    pub fn is_full(&self) -> bool {
        self.items.len() >= LIMIT
    }

    /// Puts `<secret>` in place of a text that must not be shown, wherever a finding quotes it.
    pub fn redact(&mut self, secret: &str) {
        // A text as short as this stands in every sentence: only whole quotations of it are meant.
        let quoted = |[left, right]: [char; 2]| (format!("{left}{secret}{right}"), format!("{left}<secret>{right}"));
        let short = ["``", "\"\"", "''"].map(|marks| quoted([marks.as_bytes()[0].into(), marks.as_bytes()[1].into()]));
        let hide = |text: &mut String| match secret.len() {
            0 => {}
            1..4 => short.iter().for_each(|(from, to)| *text = text.replace(from, to)),
            _ => *text = text.replace(secret, "<secret>"),
        };
        for diagnostic in &mut self.items {
            hide(&mut diagnostic.message);
            diagnostic.help.iter_mut().for_each(hide);
            diagnostic.labels.iter_mut().for_each(|(_, text)| hide(text));
        }
    }

    /// Leaves out the findings that `keep` does not want.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.items.retain(keep);
    }

    /// Adds every finding of `other`.
    pub fn extend(&mut self, other: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in other {
            self.push(diagnostic);
        }
    }

    /// Adds the findings of a later phase, less those about places that an earlier one has [muted](Self::mute).
    pub fn merge(&mut self, later: Self) {
        self.extend(later.items);
        self.dropped += later.dropped;
        later.muted.into_iter().for_each(|location| self.mute(location));
    }

    /// Says that an error about the value at `location` has been reported: findings that come later and are about it, or
    /// about something in it, are only consequences, and are dropped.
    pub fn mute(&mut self, location: Location) {
        // Each goes with an error, and beyond the limit nobody sees the consequences of one either.
        if self.muted.len() < LIMIT {
            self.muted.push(location);
        }
    }

    fn is_muted(&self, diagnostic: &Diagnostic) -> bool {
        let Some(place) = &diagnostic.primary else {
            return false;
        };
        let within = |inner: &Location, outer: &Location| {
            outer.span.start <= inner.span.start && inner.span.end <= outer.span.end
        };
        self.muted.iter().any(|muted| muted.source == place.source && (within(place, muted) || within(muted, place)))
    }

    /// Whether any finding stops the pipeline.
    pub fn has_errors(&self) -> bool {
        self.dropped > 0 || self.iter().any(Diagnostic::is_error)
    }

    /// How many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        let kept = self.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        kept + if severity == Severity::Error { self.dropped } else { 0 }
    }

    /// How many errors there are beyond those kept.
    pub fn dropped(&self) -> usize {
        self.dropped
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
        Self { items: vec![diagnostic], ..Self::default() }
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
    use crate::diagnostic::Sources;

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

    #[test]
    fn consequences_of_a_muted_place_are_dropped() {
        let mut sources = Sources::default();
        let id = sources.add_file("a", "x = [oops]\ny = 1");
        let at = |start, end| Diagnostic::error("t", "t").at(Location::new(id, start..end));
        let mut found = Diagnostics::from(at(5, 9));
        found.mute(Location::new(id, 5..9));
        let later: Diagnostics =
            [at(4, 10), at(5, 6), at(11, 12), Diagnostic::error("t", "no place")].into_iter().collect();
        found.merge(later);
        let starts: Vec<_> = found.iter().map(|one| one.primary.as_ref().map(|at| at.span.start)).collect();
        assert_eq!(starts, [None, Some(5), Some(11)]);
    }

    #[test]
    fn findings_beyond_the_limit_are_counted() {
        let found: Diagnostics = (0..LIMIT + 5).map(|n| Diagnostic::error("t", format!("{n}"))).collect();
        assert_eq!((found.len(), found.dropped(), found.count(Severity::Error)), (LIMIT, 5, LIMIT + 5));
    }
}
