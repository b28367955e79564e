//! The processes that train together: how they are started, whether they are to do the same, and how they end.

use std::ffi::OsString;
use std::time::Duration;

use datasets::Moment;
use faults::{Fault, Faults, Place};
use group::{Group, Launch, Parted, Terms};

use crate::command::{Outcome, argument, tell_faults};
use crate::engine::settings::Settings;
use crate::recipe::Recipe;

/// Most processes that are started on one machine.
const MOST: usize = 1024;

/// The group that this process was started in.
///
/// # Errors
/// As [`Group::open`].
pub fn join(wait_limit: u64) -> Result<Group, Faults> {
    Ok(Group::open(Terms { limit: Duration::from_secs(wait_limit.max(1)) })?)
}

/// True for a process that leaves the words to the first of its group.
pub fn is_silent() -> bool {
    matches!(Launch::of_environment(), Ok(Some(launch)) if launch.rank > 0)
}

/// Ends what a process of a group did: all of them wait until the last is done, or hear of the fault that one has met. The
/// first speaks for all, unless it cannot.
///
/// # Errors
/// The faults of a process by itself, and those that the first of several has met or heard of.
pub fn leave(group: &Group, done: Result<Outcome, Faults>) -> Result<Outcome, Faults> {
    let waited = done.and_then(|outcome| group.barrier().map(|()| outcome).map_err(Faults::from));
    let faults = match waited {
        Ok(outcome) => return Ok(outcome),
        Err(faults) if !group.is_several() => return Err(faults),
        Err(faults) => faults,
    };
    // Before the others know: their end may be that of this process, too.
    if group.is_first() {
        tell_faults(&faults);
    }
    let words: Vec<String> = faults.list().iter().map(Fault::line).collect();
    let Parted { all_heard, first_speaks } = group.part(&words.join("; "));
    if !group.is_first() && !first_speaks {
        tell_faults(&faults);
    }
    if !all_heard {
        group.abort(1);
    }
    Ok(Outcome::Failed)
}

/// Gives all processes one moment as that at which the run starts, where the recipe names none; a run that is resumed has
/// that of its checkpoint.
///
/// # Errors
/// Another process that cannot go on.
pub fn agree_on_the_date(group: &Group, is_resumed: bool, recipe: &mut Recipe) -> Result<(), Fault> {
    if group.is_several() && !is_resumed && recipe.data.chat.date.is_none() {
        let first = group.broadcast(0, Moment::now().to_string().as_bytes())?;
        recipe.data.chat.date = Some(Moment::parse(&String::from_utf8_lossy(&first))?);
    }
    Ok(())
}

/// Gives each process of a machine a GPU of its own, where the recipe names none and the machine has several.
pub fn take_device(group: &Group, recipe: &mut Recipe) {
    if group.is_several() {
        recipe.model.device = recipe.model.device.of_process(group.local_rank());
    }
}

/// Sees that all processes are about to do the same.
///
/// # Errors
/// One with another program, recipe, base or rows than the first has, or that cannot go on.
pub fn check_alike(group: &Group, settings: &Settings, done: usize) -> Result<(), Fault> {
    let origin = &settings.origin;
    let known = [
        ("version of this program", origin.version.clone()),
        ("recipe", origin.recipe.clone()),
        ("base", format!("{:?}", origin.base.as_ref().map(|base| &base.weights))),
        ("training rows", origin.train_fingerprint.clone()),
        ("held-out rows", format!("{:?}", origin.eval_fingerprint)),
        ("sentence encoder", format!("{:?}", origin.encoders)),
        ("number of steps done", done.to_string()),
    ];
    let own: Vec<&String> = known.iter().map(|(_, value)| value).collect();
    let given = group.all_gather(&serde_json::to_vec(&own).expect("plain data"))?;
    let read = |bytes: &Vec<u8>| serde_json::from_slice::<Vec<String>>(bytes).unwrap_or_default();
    let first = read(&given[0]);
    for (rank, theirs) in given.iter().map(read).enumerate() {
        let differs = |place: &usize| first.get(*place) != theirs.get(*place);
        if let Some(place) = (0..known.len()).find(differs) {
            let name = known[place].0;
            return Err(Fault::new(format!("{} has another {name} than {}", group.named(rank), group.named(0)))
                .at(Place::Named(group.named(rank)))
                .hint("all processes need the same program, recipe, base and rows: a shared folder, or copies of it"));
        }
    }
    Ok(())
}

/// Turns this process into the one that starts `processes` of it on this machine and waits for them.
///
/// # Errors
/// No MPI in this program or on this machine, or a launcher that has started this process already.
pub fn start(processes: usize) -> Result<Outcome, Faults> {
    let refused = |message: String, hint: &str| Err(Fault::new(message).at(argument("processes")).hint(hint).into());
    if !(1..=MOST).contains(&processes) {
        return refused(format!("`--processes` must be from 1 to {MOST}"), "one for each GPU");
    }
    if !cfg!(feature = "mpi") {
        let message = "this program was built without anything that joins processes".into();
        return refused(message, "build it with `cargo build --release --locked --features mpi`");
    }
    if let Some(launch) = Launch::of_environment()? {
        let message = format!("{} has started this process as one of {}", launch.by.name(), launch.size);
        return refused(message, "leave `--processes` out: the launcher says how many there are");
    }
    let error = turn_into(&mut mpirun(processes)?);
    refused(format!("cannot start `mpirun`: {error}"), "`apt-get install openmpi-bin` or the like installs it")
}

/// The command that starts so many processes of this program with these arguments.
fn mpirun(processes: usize) -> Result<std::process::Command, Fault> {
    let own = std::env::current_exe().map_err(|error| Fault::of_file("cannot find", "this program", &error))?;
    let mut command = std::process::Command::new("mpirun");
    command.args(["-n", &processes.to_string()]).arg(own).args(without_processes(std::env::args_os().skip(1)));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = [
        // Open MPI gives each of two processes one core, and no more processes than there are cores.
        ("OMPI_MCA_hwloc_base_binding_policy", "none".to_owned()),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1".to_owned()),
        // Seconds that it leaves a process that it has asked to end, which writes a checkpoint.
        ("OMPI_MCA_odls_base_sigkill_timeout", "60".to_owned()),
        ("RAYON_NUM_THREADS", (cores / processes).max(1).to_string()),
    ];
    command.envs(settings.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
    Ok(command)
}

#[cfg(unix)]
fn turn_into(command: &mut std::process::Command) -> std::io::Error {
    std::os::unix::process::CommandExt::exec(command)
}

#[cfg(not(unix))]
fn turn_into(_command: &mut std::process::Command) -> std::io::Error {
    std::io::ErrorKind::Unsupported.into()
}

/// The arguments but for `--processes` and its number.
fn without_processes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut is_number = false;
    for argument in arguments {
        let is_flag = argument == "--processes";
        if !is_number && !is_flag && !argument.to_string_lossy().starts_with("--processes=") {
            kept.push(argument);
        }
        is_number = is_flag && !is_number;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_has_all_arguments_but_one() {
        let of = |line: &str| without_processes(line.split_whitespace().map(OsString::from)).join(" ".as_ref());
        assert_eq!(of("run --processes 2 a.toml --set train.steps=2"), "run a.toml --set train.steps=2");
        assert_eq!(of("run a.toml --processes=12 --resume"), "run a.toml --resume");
        assert_eq!(of("run --resume a.toml"), "run --resume a.toml");
    }
}
