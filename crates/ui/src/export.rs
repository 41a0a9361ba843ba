//! The page as one file that needs no server: the page itself, and in it what the server answers about some runs, as JSON.
//!
//! The file has bounds, and says what it lacks for them. It asks nothing of the network: its policy, which names its own script and style by
//! their hashes, lets it load nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pipe_runs::Run;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api;
use crate::assets;
use crate::problem::Problem;
use crate::state::{State, id};

/// How large a file becomes.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// A curve has no more points.
    pub points: u32,
    /// All curves together have about as many; then each has fewer.
    pub all_points: usize,
    /// Of images no more bytes are in the file, as PNG.
    pub images: usize,
    /// Of what a run shows under one tag so many items, from the first to the latest.
    pub items: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { points: 2000, all_points: 1_000_000, images: 32 << 20, items: 50 }
    }
}

/// A page that was made.
pub struct Exported {
    /// It.
    pub html: String,
    /// What of the runs is not in it, for people.
    pub left_out: Vec<String>,
}

/// Makes the page of the runs in these folders, in this order. `index` is as in [`crate::Settings`].
///
/// # Errors
/// When a run cannot be read, or the program has no page in it.
pub fn export(folders: &[PathBuf], index: Option<PathBuf>, bounds: &Bounds) -> Result<Exported> {
    let files = ["app.js", "app.css"].map(assets::file);
    let [Some(script), Some(style)] = files else { bail!("{}", assets::NOT_BUILT.trim()) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let state = State::new(folders.to_vec(), index, address, String::new(), true);
    let mut told = Told { state, bounds, answers: Map::new(), images: Map::new(), left_out: Vec::new() };
    let data = told.all(folders).map_err(Problem::into_error)?;
    Ok(Exported { html: page(script, style, &data), left_out: told.left_out })
}

/// What the page is told.
struct Told<'a> {
    state: State,
    bounds: &'a Bounds,
    answers: Map<String, Value>,
    images: Map<String, Value>,
    left_out: Vec<String>,
}

/// An image that a run shows: how many steps later there are others of its tag, its run, its file.
type Shown = (usize, Arc<Run>, String);

impl Told<'_> {
    fn all(&mut self, folders: &[PathBuf]) -> Result<Value, Problem> {
        let snapshot = self.state.runs()?;
        let found = folders.iter().map(|folder| {
            let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            let id = id(&real);
            let run = snapshot.find(&id).map_err(|_| anyhow::anyhow!("there is no run in {}", folder.display()))?;
            Ok((id, run))
        });
        let mut runs: Vec<(String, Arc<Run>)> = found.collect::<Result<_>>()?;
        let mut seen = std::collections::HashSet::new();
        runs.retain(|(id, _)| seen.insert(id.clone()));
        let pixels = self.pixels(&runs);
        let (mut curves, mut machine, mut images) = (Map::new(), Map::new(), Vec::new());
        for chosen in &runs {
            let (id, run) = chosen;
            let mut known = api::run::known(&self.state, id)?;
            // A page without a server has the run's own words alone.
            known["log"] = Value::Null;
            let tags = known["machine"].as_array().cloned().unwrap_or_default();
            let tags: Vec<&str> = tags.iter().filter_map(Value::as_str).collect();
            machine.insert(id.clone(), self.curves(chosen, tags, true, pixels));
            curves.insert(
                id.clone(),
                self.curves(chosen, run.metrics.keys().map(String::as_str).collect(), false, pixels),
            );
            self.answers.insert(format!("runs/{id}"), known);
            self.answers.insert(format!("runs/{id}/console"), api::files::said(&self.state, id)?);
            self.answers.insert(format!("runs/{id}/requests"), api::steer::told(run));
            self.media(id, run, &mut images)?;
        }
        self.pictures(images);
        let session = json!({
            "reads": true, "writes": false, "version": env!("CARGO_PKG_VERSION"), "roots": [],
            "made": pipe_history::clock::now(), "left_out": self.left_out,
        });
        let wanted = api::runs::Wanted::all();
        Ok(json!({
            "session": session, "table": api::runs::rows(&self.state, &wanted)?, "keys": api::runs::known(&snapshot),
            "compare": api::compare::compared(&runs, true)?, "answers": self.answers, "curves": curves, "machine": machine,
            "images": self.images, "study": api::study::told(&runs),
        }))
    }

    /// By how many pixels each curve is told: two points each.
    fn pixels(&mut self, runs: &[(String, Arc<Run>)]) -> u32 {
        let curves: usize = runs.iter().map(|(_, run)| run.metrics.len()).sum();
        let each = (self.bounds.all_points / curves.max(1)).max(32);
        let points = u32::try_from(each).unwrap_or(u32::MAX).min(self.bounds.points);
        let longest = runs.iter().flat_map(|(_, run)| run.metrics.values()).map(|metric| metric.count).max();
        if longest.unwrap_or_default() > u64::from(points) {
            self.left_out
                .push(format!("curves have at most {points} points, the smallest and the largest of each part"));
        }
        points / 2
    }

    /// Curves of a run by tag; one that cannot be read says so on the page.
    fn curves(&self, chosen: &(String, Arc<Run>), tags: Vec<&str>, machine: bool, pixels: u32) -> Value {
        let each = tags.into_iter().filter_map(|tag| {
            let curve = api::series::whole(&self.state, chosen, tag, machine, pixels);
            let curve = curve.unwrap_or_else(|error| Some(json!({ "run": chosen.0, "error": format!("{error:#}") })));
            Some((tag.to_owned(), curve?))
        });
        Value::Object(each.collect())
    }

    /// What a run shows: the items that fit, and which images they name.
    fn media(&mut self, id: &str, run: &Arc<Run>, images: &mut Vec<Shown>) -> Result<(), Problem> {
        let mut list = api::media::listed(&self.state, id)?;
        for tag in list["tags"].as_array_mut().into_iter().flatten() {
            let Some(items) = tag["items"].as_array_mut() else { continue };
            let many = items.len();
            *items = spread(items, self.bounds.items);
            if items.len() < many {
                let (kept, name) = (items.len(), tag["tag"].as_str().unwrap_or_default());
                self.left_out.push(format!("of the {many} items of {name} of {}, {kept} are there", run.name));
            }
            let places =
                tag["items"].as_array().into_iter().flatten().filter_map(|item| item[0].as_u64()).collect::<Vec<_>>();
            let after = places.len();
            for (nth, at) in places.into_iter().enumerate() {
                let value = self.state.with_media(&run.folder, |media| {
                    media.items.get(at as usize).map(|item| media.value(item)).transpose()
                });
                let Ok(Some(value)) = value else { continue };
                if let Some(file) = value["file"].as_str() {
                    images.push((after - nth, run.clone(), file.to_owned()));
                }
                self.answers.insert(format!("runs/{id}/media/{at}"), value);
            }
        }
        self.answers.insert(format!("runs/{id}/media"), list);
        Ok(())
    }

    /// The images: the latest of each tag first, as far as there is room.
    fn pictures(&mut self, mut images: Vec<Shown>) {
        images.sort_by_key(|(age, ..)| *age);
        let (mut room, mut without) = (self.bounds.images, 0);
        for (_, run, file) in images {
            let name = file.rsplit('/').next().unwrap_or_default().to_owned();
            if self.images.contains_key(&name) {
                continue;
            }
            match api::media::pixels(&self.state, &run, &file) {
                Ok(bytes) if bytes.len() <= room => {
                    room -= bytes.len();
                    self.images.insert(name, format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes)).into());
                }
                Ok(_) => without += 1,
                // It is missing in the folder, too.
                Err(_) => {}
            }
        }
        if without > 0 {
            let most = self.bounds.images >> 20;
            self.left_out.push(format!(
                "{without} images are not there: with the latest of each tag the file has {most} MiB of them"
            ));
        }
    }
}

/// So many of the items, evenly, with the first and the last.
fn spread(items: &[Value], most: usize) -> Vec<Value> {
    if items.len() <= most || most < 2 {
        return items[items.len().saturating_sub(most)..].to_vec();
    }
    (0..most).map(|at| items[at * (items.len() - 1) / (most - 1)].clone()).collect()
}

/// The page in one file.
fn page(script: &str, style: &str, data: &Value) -> String {
    // In a script these stand in texts only, where they mean the same.
    let script = script.replace("</script", "<\\/script").replace("<!--", "\\x3c!--");
    let style = style.replace("</style", "<\\/style");
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(&script),
        hash(&style)
    );
    // In JSON a `<` stands in texts only: so written, no text ends the element or begins another.
    let data = data.to_string().replace('<', "\\u003c");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>pipe</title>\n<style>{style}</style>\n</head>\n<body>\n<div id=\"app\"></div>\n\
         <noscript>This page is drawn by its script, which the browser does not run.</noscript>\n\
         <script type=\"application/json\" id=\"pipe-data\">{data}</script>\n<script type=\"module\">{script}</script>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_the_data() {
        let hostile = "</script><script>alert(1)</script><!--";
        let html = page("run(\"</script>\")", "p{}", &json!({ "name": hostile }));
        assert_eq!(html.matches("</script>").count(), 2, "{html}");
        assert_eq!(html.matches("<script").count(), 2);
        let from = html.find("id=\"pipe-data\">").unwrap() + 15;
        let to = html[from..].find("</script>").unwrap() + from;
        assert_eq!(serde_json::from_str::<Value>(&html[from..to]).unwrap()["name"], hostile);
    }

    #[test]
    fn some_of_many_are_spread_over_all() {
        let all: Vec<Value> = (0..1000).map(Value::from).collect();
        let some = spread(&all, 50);
        assert_eq!((some.len(), &some[0], &some[49]), (50, &json!(0), &json!(999)));
        assert_eq!(spread(&all[..7], 50), all[..7]);
    }
}
