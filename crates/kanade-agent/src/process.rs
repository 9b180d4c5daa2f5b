//! One script as a process: started with its own process group and its output captured, ended with its whole tree.

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use kanade_model::{OutputStream, RunAs, Shell};
use process_wrap::tokio::{ChildWrapper, CommandWrap};
use tokio::{
    io::AsyncRead,
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

#[cfg(unix)]
use crate::tree::{GRACE, RUN_ID_VARIABLE, Remains, Tree};
use crate::{live::Tap, output::SharedCapture, params::Variables};

#[cfg(target_os = "linux")]
pub(crate) use crate::tree::ProcessMark;

/// Nothing but Linux lets a process be named beyond the life of its pid in a file.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ProcessMark {}

#[cfg(not(unix))]
const RUN_ID_VARIABLE: &str = "KANADE_RUN_ID";

/// Once the script has ended, its output is waited for this long: what it left in the background may keep it open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) shell: Shell,
    pub(crate) script: String,
    pub(crate) cwd: Option<String>,
    pub(crate) run_as: RunAs,
    /// What it finds in its environment.
    pub(crate) variables: Variables,
    /// Names the run in the environment of its processes.
    pub(crate) run_id: String,
    /// Where the script is written for the interpreter to read; only the agent may look into it.
    pub(crate) scripts: PathBuf,
    /// The most bytes to keep of each output.
    pub(crate) output_limit: usize,
    /// Hears what is printed, besides the capture.
    pub(crate) live: Option<Tap>,
    /// Ends the reading of what is left in the background.
    pub(crate) closing: CancellationToken,
}

/// Why a script was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotStart {
    #[error(
        "not started: this agent runs scripts under its own account only (run_as `system`), not as `{0}`"
    )]
    Account(&'static str),
    #[error("not started: the working directory `{cwd}` cannot be used: {source}")]
    WorkingDirectory { cwd: String, source: io::Error },
    #[error("not started: the script cannot be written to `{}`: {source}", path.display())]
    Script { path: PathBuf, source: io::Error },
    #[error(
        "not started: `{program}` cannot be run: {source}; is it installed and on the PATH of the agent?"
    )]
    Interpreter {
        program: &'static str,
        source: io::Error,
    },
}

/// A running script. Dropped before its end, its process group is killed.
pub(crate) struct Process {
    child: Box<dyn ChildWrapper>,
    #[cfg(unix)]
    tree: Option<Tree>,
    stdout: SharedCapture,
    stderr: SharedCapture,
    readers: [JoinHandle<()>; 2],
    _script: ScriptFile,
}

impl Process {
    pub(crate) async fn start(launch: Launch) -> Result<Self, CannotStart> {
        match launch.run_as {
            RunAs::System => {}
            RunAs::User => return Err(CannotStart::Account("user")),
            RunAs::SystemGui => return Err(CannotStart::Account("system_gui")),
        }
        spawn_blocking(|| prepare(launch))
            .await
            .expect("preparing a script does not panic and is not aborted")
            .and_then(Prepared::spawn)
    }

    /// Names the process for a later life of the agent.
    pub(crate) fn mark(&self) -> Option<ProcessMark> {
        #[cfg(target_os = "linux")]
        {
            ProcessMark::of(self.child.id()?)
        }
        #[cfg(not(target_os = "linux"))]
        {
            None
        }
    }

    /// Waits for the script itself; what it left in the background is not waited for, and goes on.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.inner_mut().wait().await?;
        #[cfg(unix)]
        {
            self.tree = None;
        }
        Ok(status)
    }

    /// Ends the script with everything it has started.
    pub(crate) async fn end(&mut self) {
        #[cfg(unix)]
        if let Some(tree) = self.tree.take() {
            let ending = spawn_blocking(move || tree.end(GRACE));
            // The script has to be reaped meanwhile.
            let (remains, _) = tokio::join!(
                ending,
                tokio::time::timeout(GRACE * 2, self.child.inner_mut().wait())
            );
            if !matches!(remains, Ok(Remains::Nothing)) {
                tracing::error!("processes of a script survive KILL; they are left behind");
            }
        }
        #[cfg(windows)]
        {
            // The job object ends everything in it; Windows has no gentler way for a process without a console.
            if let Err(error) = self.child.start_kill() {
                tracing::error!(%error, "cannot end the processes of a script");
            }
            let _ = tokio::time::timeout(Duration::from_secs(5), self.child.inner_mut().wait()).await;
        }
    }

    /// What it printed on standard output and standard error.
    pub(crate) async fn output(mut self) -> (String, String) {
        let [stdout, stderr] = &mut self.readers;
        // Each ends with its stream.
        let _ = tokio::time::timeout(LAST_OUTPUT, async { tokio::join!(stdout, stderr) }).await;
        (self.stdout.take(), self.stderr.take())
    }
}

#[cfg(unix)]
impl Drop for Process {
    fn drop(&mut self) {
        if let Some(tree) = &self.tree {
            tree.kill_group();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("id", &self.child.id())
            .finish_non_exhaustive()
    }
}

/// Ends what is left of a run that was started by an agent that is gone.
pub(crate) async fn end_left_behind(run_id: String, leader: Option<ProcessMark>) {
    #[cfg(target_os = "linux")]
    {
        let ended = spawn_blocking(move || Tree::left_behind(&run_id, leader).end(GRACE)).await;
        if !matches!(ended, Ok(Remains::Nothing)) {
            tracing::error!("processes of an earlier life of the agent survive KILL; they are left behind");
        }
    }
    // Windows has ended them with the agent. Other systems give no way to tell them from others.
    #[cfg(not(target_os = "linux"))]
    let _ = (run_id, leader);
}

/// The exit code as a shell would give it, and a line about it where the code does not speak for itself.
pub(crate) fn exit_code(status: ExitStatus) -> (i32, Option<String>) {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = nix::sys::signal::Signal::try_from(signal)
            .map_or_else(|_| signal.to_string(), |name| name.to_string());
        return (128 + signal, Some(format!("ended by signal {name}")));
    }
    (status.code().unwrap_or(-1), None)
}

struct Prepared {
    command: CommandWrap,
    program: &'static str,
    script: ScriptFile,
    launch: Launch,
}

fn prepare(launch: Launch) -> Result<Prepared, CannotStart> {
    if let Some(cwd) = &launch.cwd
        && let Err(source) = is_directory(cwd)
    {
        return Err(CannotStart::WorkingDirectory {
            cwd: cwd.clone(),
            source,
        });
    }
    let path = launch
        .scripts
        .join(format!("{}.{}", launch.run_id, extension(launch.shell)));
    let script = ScriptFile::write(path.clone(), launch.shell, &launch.script)
        .map_err(|source| CannotStart::Script { path, source })?;
    let program = launch.shell.as_str();
    let command = CommandWrap::with_new(program, |command| {
        command
            .args(arguments(launch.shell))
            .arg(&script.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The agent may live in the server's process, whose settings and secrets are none of a script's business.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KANADE_") {
                command.env_remove(name);
            }
        }
        command.envs(&launch.variables.0);
        command.env(RUN_ID_VARIABLE, &launch.run_id);
        if let Some(cwd) = &launch.cwd {
            command.current_dir(cwd);
        }
    });
    Ok(Prepared {
        command,
        program,
        script,
        launch,
    })
}

impl Prepared {
    fn spawn(mut self) -> Result<Process, CannotStart> {
        #[cfg(unix)]
        self.command.wrap(process_wrap::tokio::ProcessGroup::leader());
        #[cfg(windows)]
        {
            // The job ends with the agent, however that ends: nobody could find its processes afterwards. What a
            // script leaves in the background ends with the run for the same reason.
            self.command.wrap(process_wrap::tokio::KillOnDrop);
            self.command.wrap(process_wrap::tokio::JobObject);
        }
        let program = self.program;
        let mut child = self
            .command
            .spawn()
            .map_err(|source| CannotStart::Interpreter { program, source })?;
        #[cfg(unix)]
        let tree = child.id().map(|leader| Tree::of(leader, &self.launch.run_id));
        let capture = || SharedCapture::new(self.launch.output_limit);
        let (stdout, stderr) = (capture(), capture());
        let readers = [
            self.read(
                OutputStream::Stdout,
                child.stdout().take().expect("standard output is a pipe"),
                stdout.clone(),
            ),
            self.read(
                OutputStream::Stderr,
                child.stderr().take().expect("standard error is a pipe"),
                stderr.clone(),
            ),
        ];
        Ok(Process {
            child,
            #[cfg(unix)]
            tree,
            stdout,
            stderr,
            readers,
            _script: self.script,
        })
    }

    fn read(
        &self,
        which: OutputStream,
        stream: impl AsyncRead + Unpin + Send + 'static,
        into: SharedCapture,
    ) -> JoinHandle<()> {
        let (closing, live) = (self.launch.closing.clone(), self.launch.live.clone());
        let told = move |printed: &[u8]| {
            if let Some(live) = &live {
                live.push(which, printed);
            }
        };
        tokio::spawn(async move {
            closing
                .run_until_cancelled(into.fill_and_tell(stream, told))
                .await;
        })
    }
}

fn is_directory(path: &str) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        Ok(())
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

fn extension(shell: Shell) -> &'static str {
    match shell {
        Shell::Sh | Shell::Bash => "sh",
        Shell::Powershell | Shell::Pwsh => "ps1",
        Shell::Cmd => "cmd",
    }
}

/// What stands before the path of the script.
fn arguments(shell: Shell) -> &'static [&'static str] {
    match shell {
        Shell::Sh | Shell::Bash => &[],
        Shell::Powershell | Shell::Pwsh => &[
            "-NoProfile",
            "-NonInteractive",
            "-ExecutionPolicy",
            "Bypass",
            "-File",
        ],
        Shell::Cmd => &["/D", "/C"],
    }
}

/// A script in a file, because an argument of a program is limited to 128 KiB on Linux and 32 KiB on Windows. Removed
/// when dropped.
#[derive(Debug)]
struct ScriptFile(PathBuf);

impl ScriptFile {
    fn write(path: PathBuf, shell: Shell, script: &str) -> io::Result<Self> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let written = Self(path);
        match shell {
            // Windows PowerShell takes a file without this mark for the legacy code page.
            Shell::Powershell => file.write_all("\u{feff}".as_bytes())?,
            // Otherwise every line is printed before it is run.
            Shell::Cmd => file.write_all(b"@echo off\r\n")?,
            Shell::Sh | Shell::Bash | Shell::Pwsh => {}
        }
        file.write_all(script.as_bytes())?;
        Ok(written)
    }
}

impl Drop for ScriptFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a script that has run");
        }
    }
}

/// Makes the folder of the scripts, and removes those of an earlier life.
pub(crate) fn clear_scripts(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}
