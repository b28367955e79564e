//! Prints the tokenizer of the tiny base model, learned anew from its corpus.

fn main() {
    print!("{}", datasets::builtin::build_tokenizer());
}
