//! What processes that `mpirun` has started give each other. The program starts itself: by itself it is the test, within
//! `mpirun` one of the ranks.

use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use group::{Group, Launch, Parted, Terms};

fn main() -> ExitCode {
    match Launch::of_environment().expect("an environment of a launcher") {
        Some(_) => rank(),
        None => {
            tests();
            ExitCode::SUCCESS
        }
    }
}

fn tests() {
    if !cfg!(feature = "mpi") || Command::new("mpirun").arg("--version").output().is_err() {
        println!("skipped: this needs `--features mpi` and `mpirun`");
        return;
    }
    for size in ["1", "2", "3"] {
        let output = started(size, "sums");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.lines().filter(|line| line.starts_with("right: ")).count().to_string(), size, "{said}");
    }
    // Messages of more than a block.
    assert!(started("2", "large").status.success());

    let output = started("3", "fault");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("heard: rank 1 of 3 on"), "{said}");
    assert!(said.contains("the disk of rank 1 is full"), "{said}");
    assert_eq!(said.matches("untold").count(), 1, "{said}");

    let output = started("3", "hang");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("nothing has come from rank 1 of 3 on"), "{said}");
    assert!(!said.contains("come from rank 0") && !said.contains("come from rank 2"), "{said}");

    let output = started("2", "leave");
    assert!(!output.status.success(), "{output:?}");
}

/// So many ranks that do what a word says.
fn started(size: &str, what: &str) -> Output {
    let own = std::env::current_exe().expect("this program");
    Command::new("mpirun")
        .args(["--oversubscribe", "--bind-to", "none", "-n", size])
        .arg(own)
        .arg(what)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .output()
        .expect("mpirun")
}

fn rank() -> ExitCode {
    let limit = Duration::from_secs(2);
    let group = Group::open(Terms { limit }).expect("a group");
    let what = std::env::args().nth(1).expect("a word");
    match what.as_str() {
        "sums" => {
            sums(&group);
            println!("right: {}", group.named(group.rank()));
        }
        "large" => large(&group),
        "fault" if group.rank() == 1 => {
            let parted = group.part("the disk of rank 1 is full");
            assert_eq!(parted, Parted { all_heard: true, first_speaks: true });
            return ExitCode::FAILURE;
        }
        "fault" => {
            let fault = group.barrier().expect_err("rank 1 does not come").to_string();
            eprintln!("heard: {fault}");
            if !group.part(&fault).first_speaks {
                eprintln!("untold");
            }
            return ExitCode::FAILURE;
        }
        "hang" => {
            while group.rank() == 1 {
                std::thread::park();
            }
            eprintln!("{}", group.barrier().expect_err("rank 1 does not come"));
            group.part("lost");
            group.abort(1);
        }
        "leave" if group.rank() == 1 => panic!("a fault of this program"),
        "leave" => group.barrier().expect("the other ends all before"),
        _ => unreachable!("{what}"),
    }
    ExitCode::SUCCESS
}

fn sums(group: &Group) {
    let (rank, size) = (group.rank(), group.size());
    for length in [0, 1, 2, 5, 1000] {
        let of = |rank: usize, place: usize| 1e8 / (rank + 1) as f32 + 1.0 / (place + 1) as f32;
        let mut values: Vec<f32> = (0..length).map(|place| of(rank, place)).collect();
        group.all_reduce(&mut values).expect("all are there");
        let sum = |place: usize| (1..size).fold(of(0, place), |sum, rank| sum + of(rank, place));
        assert!(values.iter().enumerate().all(|(place, value)| value.to_bits() == sum(place).to_bits()));
    }
    // Of different lengths, and in the order of the ranks.
    let given = group.all_gather(&vec![rank as u8; 3 * rank]).expect("all are there");
    assert_eq!(given, (0..size).map(|rank| vec![rank as u8; 3 * rank]).collect::<Vec<_>>());
    let last = size - 1;
    assert_eq!(group.broadcast(last, format!("of {rank}").as_bytes()), Ok(format!("of {last}").into_bytes()));
    group.barrier().expect("all are there");
    let spent = group.take_spent();
    assert_eq!(spent.bytes > 0, size > 1, "{spent:?}");
    assert!(spent.waited >= 0.0 && spent.sent >= 0.0);
    assert!(group.local_rank() < size);
}

fn large(group: &Group) {
    let length = 34_000_001;
    let mut values = vec![1.0f32; length];
    values[length - 1] = group.rank() as f32;
    group.all_reduce(&mut values).expect("all are there");
    assert!(values[..length - 1].iter().all(|value| *value == 2.0) && values[length - 1] == 1.0);
}
