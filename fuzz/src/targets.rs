//! The readers, each as a function of bytes.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pipe_coco::eval::{IouType, ScoreOptions, score};
use pipe_coco::index::{Index, LoadOptions as CocoOptions};
use pipe_coco::mask::Rle;
use pipe_components::dataset::mnist::{Mnist, Split};
use pipe_document::diagnostic::Sources;
use pipe_document::{Document, LoadOptions};
use pipe_plan::Plan;
use pipe_sweep::pruner::{Asha, Median};
use pipe_sweep::{Journal, Parameter, Pruner, Sampler, Space};
use serde_json::json;

use crate::run_folder;

/// A reader.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Reads an input. An error is an answer as good as any.
    pub run: fn(&Folder, &[u8]) -> Result<()>,
    /// What its format is made of.
    pub words: &'static [&'static [u8]],
}

/// A folder of the process, for readers that want files.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// A new one, in memory where there is such a place.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Folder> {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Ok(Folder(made.context("no folder for inputs")?))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }
}

/// Every reader.
pub const TARGETS: [Target; 11] = [
    Target { name: "pipeline", run: pipeline, words: PIPELINE },
    Target { name: "coco", run: coco, words: COCO },
    Target { name: "results", run: results, words: COCO },
    Target { name: "runs", run: runs, words: &[] },
    Target { name: "weights", run: weights, words: WEIGHTS },
    Target { name: "idx", run: idx, words: &[b"\0\0\x08\x03", b"\x1f\x8b\x08"] },
    Target { name: "image", run: image, words: IMAGE },
    Target { name: "state", run: state, words: STATE },
    Target { name: "folder", run: |folder, bytes| run_folder::read(folder.0.path(), bytes), words: run_folder::WORDS },
    Target { name: "journal", run: journal, words: JOURNAL },
    Target { name: "plugin", run: plugin, words: &[b"pipe_plugin_table_", b"\x7fELF", b".dynsym\0"] },
];

const PIPELINE: &[&[u8]] = &[
    b"[vars]\n",
    b"\n#base\n",
    b"extends = \"base.toml\"\n",
    b"${",
    b"${env:TOKEN}",
    b"${a}",
    b"[[on]]\n",
    b"[profile.demo]\n",
    b"type = \"",
    b"[model.net]\n",
    b"engine.trainer:",
    b"\"\"\"",
    b"{ ",
    b" }",
    b"[engine.t]\n",
    b"= ",
    b"\n",
    b"[pipeline]\nname = ",
    b"metric.a:accuracy",
    b"dataset.train:num_classes",
    b"\\u001b",
    b"2026-01-01T00:00:00Z",
    b"0x",
    b"inf",
];
const COCO: &[&[u8]] = &[
    b"\"images\":",
    b"\"annotations\":",
    b"\"categories\":",
    b"\"segmentation\":",
    b"\"counts\":",
    b"\"size\":",
    b"\"bbox\":",
    b"\"id\":",
    b"\"image_id\":",
    b"\"category_id\":",
    b"\"score\":",
    b"\"iscrowd\":1",
    b"999999.5,",
    b"[[",
    b"]]",
    b"{",
    b"},",
    b"1e6",
];
const WEIGHTS: &[&[u8]] = &[
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"data.pkl",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"\"dtype\":\"F32\"",
    b"\"data_offsets\":[",
    b"\"shape\":[",
    b"__metadata__",
    b"h\x00",
    b"R",
    b"(",
    b"t",
    b"\x85",
    b"u",
    b"Q",
    b"q\x01",
];
const IMAGE: &[&[u8]] = &[
    b"\xff\xd8\xff",
    b"\xff\xc0",
    b"\xff\xc2",
    b"\xff\xda",
    b"\xff\xc4",
    b"\xff\xdb",
    b"\xff\xdd",
    b"\xff\xe1",
    b"\xff\xd9",
    b"Exif\0\0",
    b"\x89PNG\r\n\x1a\n",
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"zTXt",
    b"eXIf",
    b"acTL",
    b"GIF89a",
    b"\x21\xf9\x04",
    b"\x2c",
    b"RIFF",
    b"WEBPVP8 ",
    b"VP8L",
    b"VP8X",
    b"ALPH",
    b"ANIM",
];
const STATE: &[&[u8]] =
    &[b"\"format\":", b"\"seed\":", b"\"clock\":", b"\"nodes\":", b"\"files\":", b"\"values\":", b"{}", b"\"NaN\""];

const JOURNAL: &[&[u8]] = &[
    b"\n{\"op_code\":4,\"study_id\":0,",
    b"\"trial_id\":0,",
    b"\"state\":1",
    b"\"values\":[NaN]",
    b"-Infinity",
    b"\\\"high\\\":9223372036854775807",
    b"\\\"low\\\":-9223372036854775808",
    b"\\\"choices\\\":[]",
    b"\"param_value_internal\":",
    b"\"step\":-9223372036854775808",
    b"\"completed_rung_0\":",
    b"\"constraints\":[",
];

/// A pipeline, and behind a line `#base` one that it may extend; read, planned and shown.
fn pipeline(_: &Folder, bytes: &[u8]) -> Result<()> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    };
    let mark = b"\n#base\n";
    let cut = bytes.windows(mark.len()).position(|part| part == mark).unwrap_or(bytes.len());
    let (main, base) = (&bytes[..cut], bytes.get(cut + mark.len()..).unwrap_or_default());
    let read = |path: &Path| if path == Path::new("main.toml") { text(main) } else { text(base) };
    let env = |name: &str| (name == "TOKEN").then(|| "s3cr3t".to_owned());
    let options = LoadOptions { env: &env, read: &read, profile: None, sets: Vec::new(), base: None };
    let mut sources = Sources::default();
    let (document, mut found) = Document::load(Path::new("main.toml"), &options, &mut sources);
    if let Some(mut document) = document {
        let (_, more, marks) = Plan::with_marks(&document, &sources, pipe_core::builtin());
        found.merge(more);
        marks.secrets.iter().for_each(|secret| document.redact(secret));
        for (place, text) in document.secrets() {
            sources.blot(&place);
            found.redact(&text);
        }
        let _ = (document.show(&sources), document.to_toml());
    }
    let said = found.render_text(&sources, false);
    assert!(!said.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "steers the terminal: {said:?}");
    ensure!(!found.has_errors(), "errors");
    Ok(())
}

/// An annotation file, and the masks in it.
fn coco(_: &Folder, bytes: &[u8]) -> Result<()> {
    let index = Index::read(
        io::Cursor::new(bytes),
        "input",
        &CocoOptions {
            strict: bytes.len().is_multiple_of(2),
            images: bytes.len().is_multiple_of(3),
            keypoints: bytes.len().is_multiple_of(5),
        },
    )?;
    let _ = (index.num_classes(), index.audit().to_string());
    for position in 0..index.images().len().min(8) {
        for annotation in index.annotations(position).iter().take(8) {
            let _ = index.mask(annotation).map(|mask| (mask.bbox(), mask.area()));
        }
    }
    Ok(())
}

/// A results file, scored.
fn results(folder: &Folder, bytes: &[u8]) -> Result<()> {
    let truth = folder.file("truth.json", include_bytes!("../corpus/coco/small.json"))?;
    let results = folder.file("results.json", bytes)?;
    let iou = if bytes.len().is_multiple_of(2) { IouType::Bbox } else { IouType::Segm };
    score(&truth, &results, iou, &ScoreOptions::default()).map(drop)
}

/// A compressed string of run lengths, for an image whose size comes first.
fn runs(_: &Folder, bytes: &[u8]) -> Result<()> {
    let (size, text) = bytes.split_first_chunk::<4>().context("too short")?;
    let side = |at: usize| u32::from(u16::from_le_bytes([size[at], size[at + 1]]));
    let mask = Rle::from_compressed(side(0), side(2), text)?;
    ensure!(Rle::from_compressed(side(0), side(2), mask.to_compressed().as_bytes())? == mask, "changed on the way");
    Ok(())
}

/// A study's journal, gone on with by each sampler and judged by each pruner.
fn journal(folder: &Folder, bytes: &[u8]) -> Result<()> {
    let journal = Journal::open(&folder.file("journal.log", bytes)?, false)?;
    let names: Vec<String> = journal.replay().names().into_iter().map(str::to_owned).collect();
    for study in names.iter().filter_map(|name| journal.replay().study(name)) {
        let _ = (study.ranked().len(), study.best().len(), pipe_sweep::importances(study));
        // As the file has them, one parameter a kind.
        let kinds = study.trials.iter().rev().flat_map(|trial| &trial.distributions).take(8);
        let mut parameters: Vec<Parameter> = Vec::new();
        for (name, distribution) in kinds.filter(|(_, distribution)| distribution.is_sound()) {
            if parameters.iter().all(|other| other.name != *name) {
                parameters.push(Parameter { name: name.clone(), distribution: distribution.clone(), when: Vec::new() });
            }
        }
        let space = Space { parameters };
        for sampler in [Sampler::Random, Sampler::Tpe] {
            let _ = sampler.suggest(study, &space, 0, 0);
        }
        let asha = Asha { first: None, factor: 2, skip: 0, bootstrap: 0 };
        for mut pruner in [Pruner::Asha(asha), Pruner::Median(Median { startup: 0, warmup: 0, every: 1 })] {
            study.trials.iter().for_each(|trial| drop(pruner.judge(study, trial)));
        }
    }
    Ok(())
}

/// A file of weights, of any of the formats.
fn weights(folder: &Folder, bytes: &[u8]) -> Result<()> {
    pipe_vision::weights::read(&folder.file("weights", bytes)?).map(drop)
}

/// A file of images in MNIST's format.
fn idx(folder: &Folder, bytes: &[u8]) -> Result<()> {
    let (plain, packed) = ("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz");
    let (name, other) = if bytes.starts_with(&[0x1f, 0x8b]) { (packed, plain) } else { (plain, packed) };
    let _ = std::fs::remove_file(folder.0.path().join(other));
    folder.file(name, bytes)?;
    folder.file("t10k-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 3, 4])?;
    Mnist::open(folder.0.path(), Split::Test, None, None).map(drop)
}

/// An image.
fn image(_: &Folder, bytes: &[u8]) -> Result<()> {
    // A PNG whose checksums are wrong is refused at the door: most changes would get no further.
    let mended = mended(bytes);
    pipe_data::decode::decode_image(&mended, bytes.len().is_multiple_of(2)).map(drop)
}

fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 8;
    while bytes.starts_with(b"\x89PNG") {
        let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { break };
        let end = at.saturating_add(8).saturating_add(u32::from_be_bytes(*length) as usize);
        if end.saturating_add(4) > bytes.len() {
            break;
        }
        let sum = crc32fast::hash(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
    bytes
}

/// The plain part of a checkpoint.
fn state(folder: &Folder, bytes: &[u8]) -> Result<()> {
    let checkpoint = folder.0.path().join("checkpoints/step_000003");
    std::fs::create_dir_all(&checkpoint)?;
    let mut files = serde_json::Map::new();
    for (name, bytes) in [("state.json", bytes), ("state.safetensors", &[])] {
        std::fs::write(checkpoint.join(name), bytes)?;
        let sum = json!({ "bytes": bytes.len(), "crc32": format!("{:08x}", crc32fast::hash(bytes)) });
        files.insert(name.to_owned(), sum);
    }
    // Whoever writes a file of sums can write a right one.
    let complete = json!({ "format": 2, "step": 3, "files": files });
    std::fs::write(checkpoint.join("complete.json"), complete.to_string())?;
    pipe_run::checkpoint::newest(folder.0.path()).context("no checkpoint").map(drop)
}

/// A plugin's library, as far as it is looked at before it is opened.
fn plugin(_: &Folder, bytes: &[u8]) -> Result<()> {
    pipe_run::plugins::library::exported(bytes).map(drop)
}
