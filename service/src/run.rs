//! From a command line to an exit code.

use std::future::Future;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::nice;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::context::{CommonSettings, ServiceContext};
use crate::descriptors::{self, DescriptorNeed};
use crate::settings::{self, Printed, SettingsErrors, Validate};
use crate::{App, BoxError, exit, logging, service_manager, shutdown, traces};

/// A service that has not returned this long after the drain deadline is ended.
const OVERRUN_GRACE: Duration = Duration::from_secs(2);

/// How long blocking threads (a DNS look-up, a file) may delay the end of the process.
const BLOCKING_GRACE: Duration = Duration::from_secs(1);

/// The options that every service has. Flatten it into the service's own command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServiceArgs {
    /// Settings file (TOML). Environment variables override it
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Print every setting with its value, default and meaning as a settings file, secrets redacted, and exit. Secrets may be missing
    #[arg(long)]
    pub print_config: bool,

    /// Check the settings and exit: 0 if they are good, 2 if not
    #[arg(long, conflicts_with = "print_config")]
    pub check_config: bool,

    /// With --check-config: also connect as the service would, say what works, and exit with 1 if something does not
    #[arg(long, requires = "check_config")]
    pub connect: bool,
}

/// A service's settings, with the keys that every service has.
pub trait ServiceSettings: Validate + JsonSchema + Serialize + DeserializeOwned + Default + Sync {
    /// The keys that every service has.
    fn common(&self) -> &CommonSettings;

    /// The settings that bound connections, with the descriptors that they may take. The service does not start if they, and a
    /// reserve, do not fit the process's hard limit.
    fn descriptors(&self) -> Vec<DescriptorNeed> {
        Vec::new()
    }

    /// Connects to what the service needs, without changing anything, for `--check-config --connect`: a line for each part that
    /// works, or what is wrong with it and what to do.
    fn try_connections(&self) -> impl Future<Output = Vec<Result<String, String>>> + Send {
        async { Vec::new() }
    }
}

/// Runs a service: reads its settings, starts logs, signals and the operations port, and drives `run` to its end.
///
/// `run` returns after `ServiceContext::stop` was cancelled and its work is drained. An error is logged and gives
/// [`exit::FAILURE`]; so does not returning by the drain deadline.
pub fn serve<S, F, Fut, E>(app: App, args: &ServiceArgs, run: F) -> ExitCode
where
    S: ServiceSettings,
    F: FnOnce(S, ServiceContext) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    let starting = |settings: &S| {
        descriptors_fit(settings)?;
        if !args.check_config {
            descriptors::raise_limit()
                .map_err(|error| SettingsErrors::of_process("descriptors", &error.to_string()))?;
        }
        Ok(())
    };
    execute(app, args, starting, |settings: S| async move {
        let context = ServiceContext::start(app, settings.common()).await?;
        shutdown::stop_on_signals(context.stop.clone())?;
        let service_manager = service_manager::start(context.health.clone(), context.stop.clone());
        let (stop, drain) = (context.stop.clone(), context.drain_limit());
        let stopping = stop.clone();
        let overrun = async {
            stop.cancelled().await;
            sleep_until(drain.deadline() + OVERRUN_GRACE).await;
        };
        let result = tokio::select! {
            result = run(settings, context) => result.map_err(Into::into),
            () = overrun => Err("the service did not end by its drain deadline".into()),
        };
        stopping.cancel();
        service_manager.stopped().await;
        if result.is_ok() {
            tracing::info!(service = app.name(), "ended");
        }
        result
    })
}

/// Runs one of a service's subcommands with the service's settings and logs, but without its operations port. The
/// token is cancelled by SIGTERM or SIGINT.
pub fn command<S, F, Fut, E>(app: App, args: &ServiceArgs, run: F) -> ExitCode
where
    S: ServiceSettings,
    F: FnOnce(S, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    execute(
        app,
        args,
        |_: &S| Ok(()),
        |settings: S| async move {
            let stop = CancellationToken::new();
            shutdown::stop_on_signals(stop.clone())?;
            run(settings, stop).await.map_err(Into::into)
        },
    )
}

fn execute<S, C, F, Fut>(app: App, args: &ServiceArgs, check: C, run: F) -> ExitCode
where
    S: ServiceSettings,
    C: FnOnce(&S) -> Result<(), SettingsErrors>,
    F: FnOnce(S) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    if args.print_config {
        return print_config::<S>(app, args);
    }
    let loaded = settings::load(&app.prefix(), args.config.as_deref());
    let settings: S = match loaded.and_then(|settings| check(&settings).map(|()| settings)) {
        Ok(settings) => settings,
        Err(errors) => return refuse(app, &errors),
    };
    if args.check_config {
        return ExitCode::from(if args.connect {
            try_connections(app, &settings)
        } else {
            exit::CLEAN
        });
    }
    let CommonSettings { log, traces, .. } = settings.common();
    let runtime = logging::init(app, log, traces).and_then(|()| runtime(app));
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(Box::pin(run(settings)));
            runtime.shutdown_timeout(BLOCKING_GRACE);
            traces::flush();
            result
        }
        Err(error) => Err(error.into()),
    };
    let code = match result {
        Ok(()) => exit::CLEAN,
        Err(error) => fail(app, error.as_ref()),
    };
    logging::flush();
    ExitCode::from(code)
}

fn runtime(app: App) -> io::Result<Runtime> {
    let lower_priority = move || {
        // On Linux, it is that of the calling thread, and may always be lowered.
        let _ = nice(app.nice());
    };
    Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(lower_priority)
        .build()
}

/// Nothing but a secret may be wrong with the settings.
fn print_config<S: ServiceSettings>(app: App, args: &ServiceArgs) -> ExitCode {
    let printed = settings::printed::<S, _, _>(&app.prefix(), args.config.as_deref(), std::env::vars_os());
    let Printed { text, errors } = match printed {
        Ok(printed) => printed,
        Err(errors) => return refuse(app, &errors),
    };
    match (io::stdout().write_all(text.as_bytes()), errors) {
        (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(exit::FAILURE),
        (_, Some(errors)) => refuse(app, &errors),
        (_, None) => ExitCode::from(exit::CLEAN),
    }
}

/// A line for each part: `ok` on stdout, or what is wrong on stderr.
fn try_connections<S: ServiceSettings>(app: App, settings: &S) -> u8 {
    let runtime = runtime(app);
    let outcomes = match runtime {
        Ok(runtime) => runtime.block_on(settings.try_connections()),
        Err(error) => vec![Err(error.to_string())],
    };
    let is_clean = outcomes.iter().all(Result::is_ok);
    for outcome in outcomes {
        // A closed stdout or stderr cannot be reported.
        let _ = match outcome {
            Ok(line) => writeln!(io::stdout(), "ok: {line}"),
            Err(line) => writeln!(io::stderr(), "{}: {line}", app.name()),
        };
    }
    if is_clean { exit::CLEAN } else { exit::FAILURE }
}

fn descriptors_fit<S: ServiceSettings>(settings: &S) -> Result<(), SettingsErrors> {
    let limit =
        descriptors::hard_limit().map_err(|error| SettingsErrors::of_process("descriptors", &error.to_string()))?;
    match descriptors::exceeded(&settings.descriptors(), limit) {
        Some((key, message)) => Err(SettingsErrors::of_process(key, &message)),
        None => Ok(()),
    }
}

fn refuse(app: App, errors: &SettingsErrors) -> ExitCode {
    // Logging depends on the settings, so it is not set up yet. A closed stderr cannot be reported.
    let _ = writeln!(io::stderr(), "{}: bad settings\n{errors}", app.name());
    ExitCode::from(exit::BAD_SETTINGS)
}

fn fail(app: App, error: &(dyn std::error::Error + 'static)) -> u8 {
    // Many texts end with that of their cause.
    let mut causes = std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    causes.dedup_by(|cause, before| before.ends_with(cause.as_str()));
    tracing::error!(service = app.name(), error = causes.join(": "), "the service failed");
    exit::FAILURE
}
