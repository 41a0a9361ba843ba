//! The `pipe` program: the command line, one file a command; what they share is in `output.rs`, `source.rs`, `partial.rs`.
//!
//! Exit status: 0 done; 1 the run failed; 2 the command line or the pipeline is wrong; 128 + N ended by signal N, with a checkpoint written.

mod check;
mod components;
mod dev;
mod eval;
mod graph;
mod new;
mod output;
mod partial;
mod plugin;
mod predict;
mod reference;
mod rehearse;
mod run;
mod schema;
mod score;
mod show;
mod signals;
mod source;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use output::{Format, Status, error_text};
// Named here so that the linker keeps them: their components register themselves.
use {pipe_boundary as _, pipe_components as _, pipe_copy_paste as _};

/// Runs deep-learning pipelines described in a TOML file.
#[derive(Debug, Parser)]
#[command(name = "pipe", version, about, arg_required_else_help = true)]
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
    /// Detect objects in images with a trained model.
    Predict(predict::PredictArgs),
    /// Evaluate a COCO results file against annotations.
    Score(score::ScoreArgs),
    /// Check a pipeline without running it. Opens the plugins that it names, which runs their code.
    Check(check::CheckArgs),
    /// Show the graph: nodes, data edges, event edges, order. Opens the plugins that it names, which runs their code.
    Graph(graph::GraphArgs),
    /// Show the resolved pipeline, each value with its origin.
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
}

/// Starts the program again with OpenMP's threads sleeping, not spinning, while they wait.
///
/// libgomp reads its settings when it is loaded, before `main`. Spinning threads take cores from the loader's workers:
/// with them the demo takes more than 50 % longer. Settings of the user are respected.
fn start_with_sleeping_threads() {
    use std::os::unix::process::CommandExt;
    let decided = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"].iter().any(|name| std::env::var_os(name).is_some());
    if decided {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    // Returns only if the program cannot be restarted; it then continues as is.
    let _error =
        std::process::Command::new(program).args(std::env::args_os().skip(1)).env("OMP_WAIT_POLICY", "passive").exec();
}

/// Parses the command line and runs the command.
fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_) | Command::Dev(_) | Command::Eval(_)) {
        start_with_sleeping_threads();
    }
    start_log(&cli);
    let json = matches!(&cli.command, Command::Run(args) if args.log_format == Format::Json);
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Dev(args) => dev::dev(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Predict(args) => predict::predict(&args),
        Command::Score(args) => score::score(&args),
        Command::Check(args) => check::check(&args),
        Command::Graph(args) => graph::graph(&args),
        Command::Show(args) => show::show(&args),
        Command::Components(args) => components::components(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::New(args) => new::new(&args),
        Command::Plugin(command) => plugin::plugin(&command),
    };
    match result {
        Ok(status) => status.into(),
        Err(error) => {
            match json {
                true => tracing::error!("{}", pipe_document::diagnostic::plain(&format!("{error:#}"))),
                false => eprintln!("{}", error_text(&error)),
            }
            Status::Failed.into()
        }
    }
}

fn start_log(cli: &Cli) {
    use tracing_subscriber::EnvFilter;
    let (quiet, json) = match &cli.command {
        Command::Run(args) => (args.quiet, args.log_format == Format::Json),
        _ => (false, false),
    };
    let default = if quiet { "error" } else { "info" };
    let filter = EnvFilter::try_from_env("PIPE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(pipe_core::terminal::Log).with_target(false);
    if json {
        builder.json().init();
    } else {
        builder.without_time().with_ansi(std::io::stderr().is_terminal()).init();
    }
}
