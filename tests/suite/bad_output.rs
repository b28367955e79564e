//! Outputs that cannot be written: a file in the way, a folder that is not ours, a full disk.

use crate::support::Workplace;

#[test]
fn a_file_in_the_way_is_left_as_it_is() {
    let place = Workplace::new();
    place.write("run", "a file");
    place.refuses("run recipe.toml", &["the output directory is a file", "run", "hint: "]);
    place.refuses("run recipe.toml --set output.dir=run/deeper", &["run/deeper"]);
    place.refuses("run recipe.toml --set output.dir=\"\"", &["`output.dir`", "hint: "]);
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let place = Workplace::new();
    // Nobody may write there, not even root.
    place.refuses("run recipe.toml --set output.dir=/proc/run", &["/proc/run"]);
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    place.refuses("export run --out /proc/adapter", &["/proc/", "adapter"]);
    place.refuses("export run --out /proc/merged --merge", &["/proc/", "merged"]);
}

/// A limit on the size of a file stands for a disk that is full: writes fail after so many blocks of 512 bytes.
fn limited(blocks: usize, arguments: &str) -> String {
    format!("trap '' XFSZ; ulimit -f {blocks}; exec trainer {arguments}")
}

#[test]
fn a_file_that_cannot_grow_leaves_no_half_checkpoint_and_the_ones_before() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=2").succeeds();
    let before = place.tree("run/checkpoints");
    let more = "run recipe.toml --set train.steps=4 --resume";
    // More than the metrics, less than the state of the optimizer.
    place.shell(&limited(200, more)).fails(&["cannot write this", "step-000004"]);
    assert!(before == place.tree("run/checkpoints"), "the failed save left something");
    place.trainer(more).succeeds();
    let whole = Workplace::new();
    whole.trainer("run recipe.toml --set train.steps=4").succeeds();
    let adapter = "run/checkpoints/step-000004/adapter_model.safetensors";
    assert!(whole.read(adapter) == place.read(adapter));
}

#[test]
fn an_export_that_cannot_be_written_leaves_nothing() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    let before = place.tree("");
    for arguments in
        ["export run --out out", "export run --out out --merge", "export run --out out --merge --dtype f32"]
    {
        place.shell(&limited(20, arguments)).fails(&["cannot write this"]);
        place.assert_unchanged(&before, arguments);
    }
}

/// A real full disk, where this machine lets us mount one.
#[test]
fn a_full_disk_is_reported_and_leaves_no_half_checkpoint() {
    let place = Workplace::with_model();
    place.write("disk/.keep", "");
    // In a name space of its own, which takes the mount away with it. What is left on the disk is listed on stdout.
    let on_a_small_disk = |kib: usize, command: &str| {
        place.shell(&format!(
            "unshare --mount --map-root-user sh -c 'mount -t tmpfs -o size={kib}k tmpfs disk || exit 77; {command}; \
             code=$?; find disk -type f | sort; exit $code' 2>&1 >stdout"
        ))
    };
    if on_a_small_disk(100, "true").code != Some(0) {
        println!("skipped: no disk can be mounted here");
        return;
    }
    // Room for the first checkpoint and not for the second.
    let ended = on_a_small_disk(900, "trainer run recipe.toml --set output.dir=disk/run 2>stderr").exits(1);
    drop(ended);
    let (said, left) = (place.text("stderr"), place.text("stdout"));
    assert!(said.contains("No space left on device") && said.contains("hint: free some space"), "{said}");
    assert!(said.contains("step-000004"), "the checkpoint is not named: {said}");
    assert!(left.contains("disk/run/checkpoints/step-000002/MANIFEST.json"), "{left}");
    assert!(!left.contains("staging") && !left.contains("partial") && !left.contains("step-000004"), "{left}");
    on_a_small_disk(100, "trainer run recipe.toml --set output.dir=disk/run --set data.eval=[] 2>stderr").exits(1);
    let (said, left) = (place.text("stderr"), place.text("stdout"));
    assert!(said.contains("No space left on device") && !left.contains("step-"), "{said}\n{left}");

    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    for (kib, flag) in [(100, ""), (1000, "--merge")] {
        on_a_small_disk(kib, &format!("trainer export run --out disk/out {flag} 2>stderr")).exits(1);
        let (said, left) = (place.text("stderr"), place.text("stdout"));
        assert!(said.contains("No space left on device") && said.contains("hint: "), "{said}");
        assert_eq!(left, "", "{flag}");
    }
}

/// A shell puts the home folder in, and nobody does where the word is quoted or stands in a recipe.
#[test]
fn no_folder_of_the_name_of_a_tilde_is_made() {
    let place = Workplace::new();
    place.refuses("run recipe.toml --set output.dir=~/run", &["`output.dir`", "`~` is expanded by a shell", "hint: "]);
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    place.trainer("export run --out ~/out").fails(&["`~` is expanded by a shell", "hint: "]);
    assert!(!place.path("~").exists());
}
