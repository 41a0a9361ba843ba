//! `pipe new DIR --template T`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use pipe_plan::schema_file::pipeline_schema;
use pipe_run::plugins;

use crate::output::{Status, print, say};

/// Arguments of `pipe new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The folder: a new one, or an empty one.
    dir: PathBuf,
    /// The template.
    #[arg(long, value_enum, default_value_t)]
    template: Template,
}

/// Templates: pipelines that the project ships and tests.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Template {
    /// A small classifier on MNIST; with the profile `demo` on built-in digits, at once.
    #[default]
    Mnist,
    /// A ResNet classifier from scratch on a folder of images.
    ImageFolder,
    /// A pretrained ResNet classifier, fine-tuned on a folder of images.
    FineTune,
    /// A pretrained Mask R-CNN or Faster R-CNN, fine-tuned on annotations in COCO format.
    Detection,
    /// A pretrained DeepLabV3 or FCN, fine-tuned on images with masks of classes.
    Segmentation,
}

/// What a template is made of.
struct Parts {
    /// The pipeline's file under `pipelines`.
    name: &'static str,
    text: &'static str,
    /// What it needs before it can run.
    needs: &'static str,
    /// The options with which it runs at once.
    options: &'static str,
    /// What to do with what was trained.
    last: &'static str,
}

const IMAGES: &str = "Put the images into `data/images/train/<class>/` and `data/images/val/<class>/`, or name another folder: \
    `IMAGES_ROOT=/data/flowers`.\n";

const EVALUATE: &str = "pipe eval RUN    # evaluate the best checkpoint; RUN is the folder that `pipe run` prints";

impl Template {
    fn parts(self) -> Parts {
        match self {
            Template::Mnist => Parts {
                name: "mnist.toml",
                text: include_str!("../pipelines/mnist.toml"),
                needs: "The profile `demo` trains on built-in digits. Without it, put MNIST's four files into `data/mnist`, or name \
                    another folder: `MNIST_ROOT=/data/mnist`.\n",
                options: " --profile demo",
                last: EVALUATE,
            },
            Template::ImageFolder => Parts {
                name: "image_folder.toml",
                text: include_str!("../pipelines/image_folder.toml"),
                needs: IMAGES,
                options: "",
                last: EVALUATE,
            },
            Template::FineTune => Parts {
                name: "finetune_resnet.toml",
                text: include_str!("../pipelines/finetune_resnet.toml"),
                needs: IMAGES,
                options: "",
                last: EVALUATE,
            },
            Template::Detection => Parts {
                name: "maskrcnn_finetune.toml",
                text: include_str!("../pipelines/maskrcnn_finetune.toml"),
                needs: "Put the images into `data/mine/train/` and `data/mine/val/`, their annotations into \
                    `data/mine/annotations/instances_train.json` and `instances_val.json`, or name another folder: \
                    `DATA_ROOT=/data/fruits`. Annotations without masks: add `--profile boxes` to each command.\n",
                options: "",
                last: "pipe predict RUN --images data/mine/val --out results.json --draw drawn    # RUN is the \
                    folder that `pipe run` prints",
            },
            Template::Segmentation => Parts {
                name: "segmentation_finetune.toml",
                text: include_str!("../pipelines/segmentation_finetune.toml"),
                needs: "Put the images into `data/mine/images/train/` and `data/mine/images/val/`, their masks under the same names into \
                    `data/mine/masks/train/` and `data/mine/masks/val/`, or name another folder: `DATA_ROOT=/data/streets`. A mask is a \
                    PNG file, grey or with a palette, whose pixels are the numbers of the classes, 255 where none is meant; name the \
                    classes under `[vars]`. To try it without files or downloads, add `--profile demo` to each command: built-in shapes, \
                    two minutes on two cores.\n",
                options: "",
                last: "pipe predict RUN --images data/mine/images/val --out masks --draw drawn    # RUN is the folder that \
                    `pipe run` prints",
            },
        }
    }
}

/// Writes a new pipeline into a new or empty folder.
///
/// # Errors
/// When the folder cannot be written.
pub fn new(args: &NewArgs) -> Result<Status> {
    let dir = &args.dir;
    let entries = fs::read_dir(dir).ok();
    if entries.is_some_and(|mut entries| entries.next().is_some()) || dir.is_file() {
        say!("error: {} already exists and is not empty; choose another folder", dir.display());
        return Ok(Status::Wrong);
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let parts = args.template.parts();
    let schema = serde_json::to_string_pretty(&pipeline_schema(plugins::catalog()))? + "\n";
    let files = [
        ("pipeline.toml", pipeline(&parts)),
        ("README.md", readme(&parts)),
        (".gitignore", "/runs/\n/data/\n".to_owned()),
        ("pipeline.schema.json", schema),
    ];
    for (name, text) in &files {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let names = files.map(|(name, _)| name).join(", ");
    print(&format!("wrote {names} to {}\nwhat comes next is in {}\n", dir.display(), dir.join("README.md").display()))
}

/// The template's pipeline, with the schema beside it.
fn pipeline(parts: &Parts) -> String {
    let text = parts.text.replacen("../schemas/pipeline.json", "pipeline.schema.json", 1);
    text.replace(&format!("pipelines/{}", parts.name), "pipeline.toml")
}

fn readme(parts: &Parts) -> String {
    let Parts { name, needs, options, last, .. } = parts;
    let title = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().replace('_', " ")).unwrap_or_default();
    format!(
        "# {title}\n\n{needs}\n```sh\npipe check pipeline.toml{options} --rehearse    # dry run: one batch of everything\n\
         pipe run pipeline.toml{options}                 # train; curves and images: tensorboard --logdir runs\n{last}\n```\n\n\
         Size, learning rate and number of epochs are in one place, under `[vars]`. `pipe components` lists what else a pipeline \
         can be made of. Editors complete and check `pipeline.toml` by `pipeline.schema.json`; `pipe schema > \
         pipeline.schema.json` renews it.\n"
    )
}
