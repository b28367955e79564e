//! Writes the seeds of a target as the first corpus: `cargo run --example seeds rows corpus/rows`.

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let target = hostile::target(&words[0]).expect("a target of this name");
    std::fs::create_dir_all(&words[1])?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(format!("{}/seed-{number:03}", words[1]), seed)?;
    }
    Ok(())
}
