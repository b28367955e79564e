//! The targets of `hostile` for libFuzzer.

use std::cell::OnceCell;

use hostile::Target;

thread_local! {
    static TARGET: OnceCell<Target> = const { OnceCell::new() };
}

/// Gives an input to the target of this name.
pub fn run(name: &str, input: &[u8]) {
    TARGET.with(|target| {
        let target = target.get_or_init(|| {
            // libFuzzer takes every panic for a find; those of others' code that are caught are none.
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !hostile::is_caught() {
                    hook(panic);
                }
            }));
            hostile::target(name).expect("a target of this name")
        });
        (target.run)(input);
    });
}
