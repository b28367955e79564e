//! What the machine, or whoever lends it, does not give: memory, instruction sets.

use crate::support::Workplace;

#[test]
fn a_limit_of_instruction_sets_that_is_not_known_is_refused() {
    let place = Workplace::new();
    for word in ["AVX2", "sse2"] {
        let said = format!("`KERNELS_LIMIT` cannot be `{word}`");
        let ended = place.trainer_with(&["check", "recipe.toml"], &[("KERNELS_LIMIT", word)]);
        ended.fails(&[&said, "avx512, avx512f, avx2, portable", "hint: "]);
    }
    for word in ["", "avx512", "avx512f", "avx2", "portable"] {
        place.trainer_with(&["check", "recipe.toml"], &[("KERNELS_LIMIT", word)]).succeeds();
    }
}

/// As a cluster sets it. Where memory ends depends on the machine: somewhere among these it does.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_memory_is_told_of_in_words() {
    let place = Workplace::new();
    let told = [45_000, 50_000, 60_000, 80_000, 100_000].map(|limit| {
        // Each thread would have a stack of its own, and there may be many.
        let ended = place.shell(&format!("ulimit -v {limit}; RAYON_NUM_THREADS=1 trainer run recipe.toml"));
        let _ = std::fs::remove_dir_all(place.path("run"));
        assert!(!ended.stderr.contains("memory allocation of"), "{limit}: {}", ended.stderr);
        // Nothing is wrong with the file that was to be read in a thread of its own.
        let has_no_thread = ended.stderr.contains("there is no thread to be had");
        assert!(!has_no_thread || ended.stderr.contains("hint: raise what"), "{limit}: {}", ended.stderr);
        // The plan may say so before the memory is asked for.
        if ended.stderr.contains("the limit of its address space (`ulimit -v`)") {
            assert_eq!(ended.code, Some(1), "{limit}: {}", ended.stderr);
            return true;
        }
        match ended.stderr.split_once("error: out of memory: no ") {
            Some((_, rest)) => {
                assert_eq!(ended.code, Some(1), "{limit}: {}", ended.stderr);
                assert!(
                    rest.contains(" bytes more are to be had\nhint: ") && rest.contains("ulimit"),
                    "{limit}: {rest}"
                );
                true
            }
            None => false,
        }
    });
    assert!(told.contains(&true));
}

/// What `ulimit -v` leaves is what can be had, and what needs more is refused before anything is loaded.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_the_address_space_is_part_of_the_plan() {
    let place = Workplace::new();
    let limited =
        |limit: u64, command: &str| place.shell(&format!("ulimit -v {limit}; RAYON_NUM_THREADS=1 trainer {command}"));
    let plan = limited(1_500_000, "check recipe.toml --json").succeeds().json();
    let available = plan["memory"]["available"].as_u64().expect("a number");
    assert!((1..=1_500_000 * 1024).contains(&available), "{available}");
    limited(3_000_000, "bench --shape llama-3.1-8b").fails(&[
        "the run needs about ",
        "and this process may have 2.9 GiB: the limit of its address space (`ulimit -v`)",
        "hint: ",
    ]);
}

#[test]
fn an_alpha_that_no_adapter_can_have_is_refused_before_the_first_step() {
    let place = Workplace::new();
    for (set, name) in [
        ("adapter.alpha=1e38", "`adapter.alpha` cannot be"),
        ("adapter.alpha_pattern={q_proj=1e30}", "`adapter.alpha_pattern.q_proj` cannot be"),
        ("adapter.alpha=2e6", "`adapter.alpha` cannot be"),
        ("adapter.rank_pattern={q_proj=0}", "`adapter.rank_pattern.q_proj` cannot be 0"),
    ] {
        place.refuses(&format!("check recipe.toml --set {set}"), &[name, "usual", "--> --set:1:"]);
    }
}
