//! Reading a run that goes on meanwhile: the checkpoint that was its latest may be gone before all of it is read.

use std::path::{Path, PathBuf};

use crate::checkpoint::of_run;
use crate::run::{BEST, CHECKPOINTS, LATEST, pointed};

/// A run that is quicker than whoever reads it has moved on each of so many times.
const TIMES: usize = 100;

/// What `read` makes of the run that `path` means. Where it fails and the run names another `latest` or `best` by then than it
/// did before, the one that was read may have been removed for that, and it is read once more.
///
/// # Errors
/// The errors of `read`, where the run has not changed in the meantime.
pub fn while_it_moves<T, E>(path: &Path, read: impl Fn() -> Result<T, E>) -> Result<T, E> {
    for _ in 0..TIMES {
        let before = named(path);
        match read() {
            Err(_) if named(path) != before => {}
            ended => return ended,
        }
    }
    read()
}

/// The checkpoints that `latest` and `best` name at this moment.
fn named(path: &Path) -> [Option<PathBuf>; 2] {
    let folder = match of_run(path) {
        Some((run, _)) => run.join(CHECKPOINTS),
        None if path.is_file() => path.parent().unwrap_or(Path::new("")).to_owned(),
        None => path.join(CHECKPOINTS),
    };
    [LATEST, BEST].map(|pointer| pointed(&folder, pointer).ok().flatten())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    /// A folder as a run has it, with this checkpoint named the latest.
    fn name(run: &Path, step: usize) {
        let folder = run.join(CHECKPOINTS);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(LATEST), format!("step-{step:06}")).unwrap();
    }

    #[test]
    fn what_fails_is_done_again_while_the_run_moves_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let whole = |which: &str| PathBuf::from(format!("{}{which}", run.display()));
        for path in [run.clone(), whole("@latest"), run.join(CHECKPOINTS).join(LATEST)] {
            name(&run, 1);
            let times = Cell::new(0);
            let read = |moves: usize| {
                times.set(times.get() + 1);
                if times.get() <= moves {
                    name(&run, 1 + times.get());
                }
                Err::<(), usize>(times.get())
            };
            assert_eq!(while_it_moves(&path, || read(3)), Err(4), "{}", path.display());
            times.set(0);
            name(&run, 1);
            assert_eq!(while_it_moves(&path, || read(0)), Err(1));
            // It ends, whatever the run does.
            times.set(0);
            assert_eq!(while_it_moves(&path, || read(usize::MAX)), Err(TIMES + 1));
            let done = while_it_moves(&path, || {
                name(&run, 7);
                Ok::<_, ()>(7)
            });
            assert_eq!(done, Ok(7));
        }
    }

    /// The race itself: as long as one saves and keeps one, another finds a checkpoint each time, and all of it.
    #[test]
    fn a_checkpoint_is_had_of_a_run_that_keeps_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = crate::Run::create(&path).unwrap();
        let contents = crate::Contents {
            weights: crate::Trained::Model(
                [("a".to_owned(), crate::StoredTensor::from_f32([1], &[1.0]))].into_iter().collect(),
            ),
            training_state: [("b".to_owned(), crate::StoredTensor::from_f32([1], &[1.0]))].into_iter().collect(),
            state: serde_json::json!({}),
            beside: Vec::new(),
            best: false,
        };
        let save = |step| run.save(step, &contents, &crate::Retention { keep: 1 }).map(drop).unwrap();
        save(1);
        let (reads, reader) = {
            let path = path.clone();
            let (tell, told) = std::sync::mpsc::channel();
            let read = move || {
                while tell.send(()).is_ok() {
                    let found = while_it_moves(&path, || {
                        let checkpoint = crate::find_checkpoint(&path)?;
                        checkpoint.training_state()?;
                        checkpoint.state()
                    });
                    found.unwrap_or_else(|fault| panic!("{fault}"));
                }
            };
            (told, std::thread::spawn(read))
        };
        let mut step = 1;
        // As often as it is read, and some saves more.
        for () in reads.iter().take(25) {
            for _ in 0..2 {
                step += 1;
                save(step);
            }
        }
        drop(reads);
        assert!(reader.join().is_ok());
    }
}
