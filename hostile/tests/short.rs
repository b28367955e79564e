//! Some hundred inputs of each target; the program `hostile` runs as many as there is time for.

use hostile::{mutate, targets};

/// Inputs of each target, beside its seeds.
const INPUTS: u64 = 300;

#[test]
fn no_reader_panics_and_each_accepts_its_seeds() {
    let threads: Vec<_> = targets()
        .into_iter()
        .map(|target| {
            std::thread::spawn(move || {
                let seeds = (target.seeds)();
                for number in 0..seeds.len() as u64 + INPUTS {
                    let input = mutate(&target, &seeds, number);
                    let accepted = (target.run)(&input);
                    let is_seed = number < seeds.len() as u64;
                    // The hub's seed is what is answered first, and not all that is asked.
                    assert!(accepted || !is_seed || target.name == "hub", "{}: seed {number} is refused", target.name);
                }
            })
        })
        .collect();
    for (thread, target) in threads.into_iter().zip(targets()) {
        let done = thread.join();
        assert!(done.is_ok(), "{}: see above; `hostile {} --seconds 10` says at which input", target.name, target.name);
    }
}
