//! The `pipe` program: the command line, one file a command; what they share is in `output.rs`, `source.rs`, `partial.rs`.
//!
//! Exit status: 0 done; 1 the run failed; 2 the command line or the pipeline is wrong; 128 + N ended by signal N, with a checkpoint written.

mod beats;
mod bench;
mod called;
mod check;
mod completions;
mod components;
mod data;
mod dev;
mod eval;
mod find_lr;
mod graph;
mod new;
mod output;
mod page;
mod partial;
mod plugin;
mod predict;
mod preflight;
mod ranks;
mod reference;
mod rehearse;
mod replay;
mod run;
mod runs;
mod schedule;
mod schema;
mod score;
mod show;
mod signals;
mod source;
mod stages;
mod submit;
mod sweep;
mod ui;

use std::io::Write;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use output::{Format, Status, error_text};
use pipe_core::terminal;
use pipe_native::threads;
use pipe_run::lock::Refused;
// Named here so that the linker keeps them: their components register themselves.
use {pipe_boundary as _, pipe_components as _, pipe_copy_paste as _};

/// Runs deep-learning pipelines described in a TOML file.
#[derive(Debug, Parser)]
#[command(name = "pipe", version, long_version = VERSIONS.as_str(), about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline.
    Run(run::RunArgs),
    /// Try a pipeline on each save: losses of a few iterations and an image of a batch.
    Dev(dev::DevArgs),
    /// Run only the evaluation of a pipeline.
    Eval(eval::EvalArgs),
    /// Find a learning rate: train a little with a growing one, and see where the loss falls most steeply.
    FindLr(find_lr::FindLrArgs),
    /// Measure a training iteration: where its time goes, how far it is from what the machine can do, what to change.
    Bench(bench::BenchArgs),
    /// Detect objects in images with a trained model.
    Predict(predict::PredictArgs),
    /// Evaluate a COCO results file against annotations.
    Score(score::ScoreArgs),
    /// Check a pipeline without running it. Opens the plugins that it names, which runs their code.
    Check(check::CheckArgs),
    /// Look at the datasets of a pipeline: counts, classes, sizes of objects beside the anchors, images that are there twice.
    Data(data::DataArgs),
    /// Look at the runs that there are: list, compare, tag, remove them; go on from a step of one with other options.
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Run a pipeline many times, with other options each time, as its section [sweep] says: a grid, by chance, or where good ones were; kept in
    /// Optuna's format.
    Sweep(sweep::SweepArgs),
    /// Submit a run to SLURM, Kubernetes or the background of this machine.
    Submit(submit::SubmitArgs),
    /// Serve a page of the runs that there are: a table, curves as they grow, comparisons; in a browser, on this machine only unless told otherwise.
    Ui(ui::UiArgs),
    /// Make one step of a run again: draw its batch after every step of the transform, and say which images and objects its loss came from.
    Replay(replay::ReplayArgs),
    /// Show the graph: nodes, data edges, event edges, order. Opens the plugins that it names, which runs their code.
    Graph(graph::GraphArgs),
    /// Show the resolved pipeline, each value with its origin; or what its schedulers will do.
    Show(show::ShowArgs),
    /// List the components, or explain one.
    Components(components::ComponentsArgs),
    /// Print the JSON schema of pipeline files, for editors.
    Schema(schema::SchemaArgs),
    /// Create a new pipeline from a template.
    New(new::NewArgs),
    /// Create, list and check plugins with your own components.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Print the script with which a shell completes commands and options.
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// Whether models are at work in this process.
    fn computes(&self) -> bool {
        match self {
            Self::Run(_) | Self::Dev(_) | Self::Eval(_) | Self::FindLr(_) => true,
            Self::Bench(_) | Self::Predict(_) | Self::Replay(_) => true,
            Self::Runs(command) => command.trains(),
            _ => false,
        }
    }
}

/// The program's version, and with which libraries it runs.
static VERSIONS: LazyLock<String> = LazyLock::new(|| {
    let found = pipe_native::libraries();
    let (pipe, cuda) = (env!("CARGO_PKG_VERSION"), if found.has_cuda { "with" } else { "without" });
    let place = found.folder.map(|folder| format!(", {}", folder.display())).unwrap_or_default();
    let torchvision = found.torchvision.unwrap_or_else(|| "not found".into());
    format!("{pipe}\nlibtorch {} {cuda} CUDA{place}\ntorchvision {torchvision}", found.libtorch)
});

/// jemalloc is the allocator of the whole process, libtorch's too: linked without a prefix, its `malloc` is the one that libraries find.
/// glibc's gives large blocks back at once, and a step that takes them again has the kernel clear every page anew.
#[cfg(feature = "jemalloc")]
use tikv_jemallocator as _;

/// Its settings, which `MALLOC_CONF` overrides: huge pages, and what is freed is kept; docs/benchmarks.md has what they were
/// chosen by.
#[cfg(feature = "jemalloc")]
// SAFETY: jemalloc reads a C string behind this pointer's first word, before anything else runs.
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR: &[u8] = b"thp:always,narenas:2,dirty_decay_ms:-1\0";

/// OpenMP's threads are told how to wait before its library is initialized.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[used]
// SAFETY: the section is the list of functions that the system's loader calls with the arguments and the environment.
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: threads::BeforeLibraries = threads::set_before_libraries;

/// Starts the program again where OpenMP's threads could not be told (the environment had no room): it loads libtorch twice then.
fn start_with_patient_threads() {
    use std::os::unix::process::CommandExt;
    if threads::are_patient() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let (name, value) = threads::SPINS;
    // Returns only if the program cannot be restarted; it then continues as is.
    let _error = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec();
}

/// Parses the command line and runs the command.
fn main() -> ! {
    let cli = Cli::parse();
    if cli.command.computes() {
        start_with_patient_threads();
    }
    start_log(&cli);
    let json = matches!(&cli.command, Command::Run(args) if args.log_format == Format::Json);
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Dev(args) => dev::dev(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::FindLr(args) => find_lr::find_lr(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Predict(args) => predict::predict(&args),
        Command::Score(args) => score::score(&args),
        Command::Check(args) => check::check(&args),
        Command::Data(args) => data::data(&args),
        Command::Runs(command) => runs::runs(command),
        Command::Submit(args) => submit::submit(&args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Ui(args) => ui::ui(args),
        Command::Replay(args) => replay::replay(&args),
        Command::Graph(args) => graph::graph(&args),
        Command::Show(args) => show::show(&args),
        Command::Components(args) => components::components(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::New(args) => new::new(&args),
        Command::Plugin(command) => plugin::plugin(&command),
        Command::Completions(args) => completions::completions::<Cli>(&args),
    };
    let status = match result {
        Ok(status) => status,
        Err(error) => {
            match json {
                true => tracing::error!("{}", pipe_document::diagnostic::plain(&format!("{error:#}"))),
                false => terminal::line(&error_text(&error)),
            }
            if error.is::<Refused>() || error.is::<pipe_runs::filter::Wrong>() { Status::Wrong } else { Status::Failed }
        }
    };
    // Not by way of libtorch's own ending: a worker that could not be stopped may still use what it takes away, and taking it away
    // is a quarter of the time of a command that computes nothing.
    let _ = std::io::stdout().flush();
    pipe_native::flush_output();
    pipe_native::exit_now(status.code().into())
}

fn start_log(cli: &Cli) {
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};
    let (quiet, json) = match &cli.command {
        Command::Run(args) => (args.quiet, args.log_format == Format::Json),
        Command::Runs(command) => (command.is_quiet(), false),
        _ => (false, false),
    };
    let filter = |default| EnvFilter::try_from_env("PIPE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let (shown, kept) = (filter(if quiet { "warn" } else { "info" }), filter("info"));
    let log = layer().with_writer(terminal::Log).with_target(false);
    let log = match json {
        true => log.json().boxed(),
        false => log.without_time().with_ansi(terminal::colors()).boxed(),
    };
    let file = layer().with_writer(terminal::Console).with_target(false).with_ansi(false);
    let file = if json { file.json().boxed() } else { file.boxed() };
    tracing_subscriber::registry().with(log.with_filter(shown)).with(file.with_filter(kept)).init();
}
