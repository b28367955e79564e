//! Words on rows that name keys of a recipe, in words of a command line, which has flags in their place.

use faults::{Fault, Faults};

use crate::logging::typed::quoted;

/// The faults of rows that a command line has named.
pub fn of_command_line(faults: Faults) -> Faults {
    faults.map(|fault| {
        let (message, hint) = (in_flags(&fault.message), fault.hint.as_deref().map(in_flags));
        Fault { message, hint, ..fault }
    })
}

/// `data.rename` is `--rename` here, with its column and key where they are known; what else a recipe can say of rows is called its own.
pub fn in_flags(hint: &str) -> String {
    let mut words = String::new();
    let mut rest = hint;
    while let Some((before, table)) = rest.split_once("`data.rename = {") {
        let Some((pairs, after)) = table.split_once("}`") else { break };
        let flags: Vec<String> = pairs.split(", ").filter_map(|pair| Some(flag(pair.split_once(" = ")?))).collect();
        words += &format!("{before}`{}`", flags.join(" "));
        rest = after;
    }
    (words + rest).replace("`data.rename`", "`--rename COLUMN=KEY`").replace("`data.", "a recipe's `data.")
}

fn flag((column, key): (&str, &str)) -> String {
    let bare = |text: &str| text.trim().trim_matches('"').to_owned();
    format!("--rename {}", quoted(&format!("{}={}", bare(column), bare(key))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_the_same_words() {
        let fault =
            Fault::new("`data.rename` names the column `q`, which the file does not have").hint("the row has `a`");
        let [told] = &of_command_line(fault.into()).into_list()[..] else { panic!("one fault") };
        assert_eq!(told.message, "`--rename COLUMN=KEY` names the column `q`, which the file does not have");
    }

    #[test]
    fn keys_that_have_a_flag_are_that_flag() {
        for (hint, expected) in [
            (
                "name the columns with `data.rename = { question = \"prompt\", answer = \"completion\" }`, or put them",
                "name the columns with `--rename question=prompt --rename answer=completion`, or put them",
            ),
            ("is it `q`? then set `data.rename = { q = \"prompt\" }`", "is it `q`? then set `--rename q=prompt`"),
            ("set `data.rename = { \"a b\" = \"prompt\" }`", "set `--rename 'a b=prompt'`"),
            ("or name them with `data.rename`", "or name them with `--rename COLUMN=KEY`"),
            ("`data.ignore` leaves it out", "a recipe's `data.ignore` leaves it out"),
            ("`data.rename = {", "a recipe's `data.rename = {"),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(in_flags(hint), expected);
        }
    }
}
