//! The two ways findings are shown: text for people, JSON for tools.

use annotate_snippets::renderer::DEFAULT_TERM_WIDTH;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use pipe_vocab::shown::{shown, shown_styled};
use serde_json::json;

use super::{Diagnostic, Diagnostics, Location, Severity, Sources};

impl Diagnostics {
    /// The findings as text: each with its line, a caret under the fault and what to do, then one closing line that counts
    /// them. Ends with a newline; empty where there is nothing to say.
    pub fn render_text(&self, sources: &Sources, color: bool) -> String {
        if self.is_empty() {
            return String::new();
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(DEFAULT_TERM_WIDTH);
        let mut text = String::new();
        for diagnostic in self {
            text.push_str(&renderer.render(&[group(&fit_to_show(diagnostic), sources)]));
            text.push_str("\n\n");
        }
        let level = if self.has_errors() { Level::ERROR } else { Level::WARNING };
        let closing = Group::with_title(level.primary_title(self.summary(sources)));
        text.push_str(&renderer.render(&[closing]));
        text.push('\n');
        if color { shown_styled(&text).into_owned() } else { shown(&text).into_owned() }
    }

    /// The findings as a JSON array of `{severity, code, message, file, line, column, help}`.
    ///
    /// `line` and `column` count from 1, columns in characters. `file`, `line`, `column` and `help` are `null` where
    /// there is none.
    pub fn render_json(&self, sources: &Sources) -> serde_json::Value {
        let objects = self.iter().map(|diagnostic| {
            let place = diagnostic.primary.as_ref();
            let position = place.map(|place| sources.position(place));
            json!({
                "severity": diagnostic.severity.as_str(),
                "code": diagnostic.code,
                "message": diagnostic.message,
                "file": place.map(|place| sources.name(place.source)),
                "line": position.map(|position| position.line),
                "column": position.map(|position| position.column),
                "help": diagnostic.help,
            })
        });
        objects.collect()
    }

    /// One line such as `maskrcnn.toml: 7 errors, 1 warning`.
    pub fn summary(&self, sources: &Sources) -> String {
        let count = |severity: Severity| match self.count(severity) {
            0 => None,
            1 => Some(format!("1 {}", severity.as_str())),
            many => Some(format!("{many} {}s", severity.as_str())),
        };
        let counts = [count(Severity::Error), count(Severity::Warning)];
        let mut counts = counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if self.dropped() > 0 {
            counts.push_str(&format!(" ({} not shown)", self.dropped()));
        }
        match sources.main() {
            Some(main) => format!("{}: {counts}", sources.name(main)),
            None => counts,
        }
    }
}

/// The finding with its words fit for a terminal: names in them come from anywhere.
fn fit_to_show(diagnostic: &Diagnostic) -> Diagnostic {
    let mut fit = diagnostic.clone();
    let words = [&mut fit.message].into_iter().chain(&mut fit.help).chain(fit.labels.iter_mut().map(|(_, text)| text));
    words.for_each(|text| *text = shown(text).into_owned());
    fit
}

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let mut group = Group::with_title(title).elements(snippets(diagnostic, sources));
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    group
}

/// One snippet a text, the one with the fault first.
fn snippets<'a>(
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let primary = diagnostic.primary.as_ref();
    let mut order = Vec::new();
    for place in primary.into_iter().chain(diagnostic.labels.iter().map(|(place, _)| place)) {
        if !order.contains(&place.source) {
            order.push(place.source);
        }
    }
    let in_source = |place: &Location, source| place.source == source;
    let snippet = |source| {
        let labels = diagnostic.labels.iter().filter(|(place, _)| in_source(place, source));
        let primary = primary.filter(|place| in_source(place, source));
        let places = primary.into_iter().chain(labels.clone().map(|(place, _)| place));
        let window = sources.lines_around(places);
        // Only the lines that matter: a renderer walks all the text it is given.
        let shift = |place: &Location| {
            let span = sources.clip(place);
            span.start - window.bytes.start..span.end - window.bytes.start
        };
        let labels = labels.map(|(place, text)| AnnotationKind::Context.span(shift(place)).label(text.as_str()));
        Snippet::source(&sources.shown(source)[window.bytes.clone()])
            .line_start(window.first_line)
            .path(sources.name(source))
            .annotations(primary.map(|place| AnnotationKind::Primary.span(shift(place))))
            .annotations(labels.collect::<Vec<_>>())
    };
    order.into_iter().map(snippet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Diagnostics, Sources) {
        let mut sources = Sources::default();
        let child = sources.add_file("child.toml", "[vars]\ncoco = 1\ncoco = 2\n");
        let parent = sources.add_file("parent.toml", "[vars]\nbase = 3\n");
        let mut found = Diagnostics::new();
        found.push(
            Diagnostic::error("duplicate-key", "the key `coco` is set twice")
                .at(Location::new(child, 16..20))
                .label(Location::new(child, 7..11), "first set here")
                .label(Location::new(parent, 7..11), "overrides this")
                .help("remove one of the two"),
        );
        found.push(Diagnostic::warning("note", "something odd"));
        (found, sources)
    }

    #[test]
    fn text_shows_the_line_the_caret_and_the_help() {
        let (found, sources) = example();
        insta::assert_snapshot!(found.render_text(&sources, false), @r#"
        warning[note]: something odd

        error[duplicate-key]: the key `coco` is set twice
         --> child.toml:3:1
          |
        2 | coco = 1
          | ---- first set here
        3 | coco = 2
          | ^^^^
          |
         ::: parent.toml:2:1
          |
        2 | base = 3
          | ---- overrides this
          |
          = help: remove one of the two

        error: child.toml: 1 error, 1 warning
        "#);
        let colored = found.render_text(&sources, true);
        assert!(colored.contains("\u{1b}["));
    }

    #[test]
    fn json_has_one_object_a_finding() {
        let (found, sources) = example();
        let value = found.render_json(&sources);
        assert_eq!(
            value,
            json!([
                {"severity": "warning", "code": "note", "message": "something odd",
                 "file": null, "line": null, "column": null, "help": null},
                {"severity": "error", "code": "duplicate-key", "message": "the key `coco` is set twice",
                 "file": "child.toml", "line": 3, "column": 1, "help": "remove one of the two"},
            ])
        );
    }

    #[test]
    fn nothing_found_renders_as_nothing() {
        assert_eq!(Diagnostics::new().render_text(&Sources::default(), false), "");
        assert_eq!(Diagnostics::new().render_json(&Sources::default()), json!([]));
    }

    #[test]
    fn places_outside_the_text_do_not_break_rendering() {
        let mut sources = Sources::default();
        let id = sources.add_file("a.toml", "é");
        for (start, end) in [(0, 1), (1, 1), (1, 2), (2, 2), (2, 99), (50, 99)] {
            let found = Diagnostics::from(Diagnostic::error("test", "x").at(Location::new(id, start..end)));
            assert!(found.render_text(&sources, false).contains("a.toml"));
        }
    }
}
