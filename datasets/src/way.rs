//! How a thing is said of rows: as a key of a recipe's `[data]`, or as a flag of a command line.

/// Where the one who reads a fault or a notice would write what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// In a recipe.
    #[default]
    Recipe,
    /// On the command line. What only a recipe can say is called a recipe's.
    Flags,
}

impl Way {
    /// What `key` of `[data]` is called, in backticks: `ignore`, or with its value `train_on = "all"`.
    pub(crate) fn key(self, key: &str) -> String {
        match (self, key) {
            (Self::Recipe, key) => format!("`data.{key}`"),
            (Self::Flags, "rename") => "`--rename COLUMN=KEY`".into(),
            (Self::Flags, "chat") => "`--chat-columns user=COLUMN,assistant=COLUMN`".into(),
            (Self::Flags, "chat_template") => "`--chat-template`".into(),
            (Self::Flags, "template_arguments") => "`--template-arguments`".into(),
            (Self::Flags, key) => format!("a recipe's `data.{key}`"),
        }
    }

    /// What gives columns the names of keys, pairs of a column and its key.
    pub(crate) fn rename<'a>(self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let pairs = pairs.into_iter();
        match self {
            Self::Recipe => {
                let pairs: Vec<String> = pairs.map(|(column, key)| format!("{} = \"{key}\"", bare(column))).collect();
                format!("`data.rename = {{ {} }}`", pairs.join(", "))
            }
            Self::Flags => {
                let word = |(column, key)| format!("--rename {}", quoted(&format!("{column}={key}")));
                format!("`{}`", pairs.map(word).collect::<Vec<String>>().join(" "))
            }
        }
    }

    /// What sets a switch of the chat template.
    pub(crate) fn template_argument(self, name: &str, is_on: bool) -> String {
        match self {
            Self::Recipe => format!("`data.template_arguments = {{ {name} = {is_on} }}`"),
            Self::Flags => format!("`--template-arguments='{{\"{name}\": {is_on}}}'`"),
        }
    }

    /// What puts two columns through the chat template.
    pub(crate) fn chat(self, user: &str, assistant: &str) -> String {
        match self {
            Self::Recipe => format!("`data.chat = {{ user = \"{user}\", assistant = \"{assistant}\" }}`"),
            Self::Flags => format!("`--chat-columns {}`", quoted(&format!("user={user},assistant={assistant}"))),
        }
    }
}

/// A column as a key of TOML.
fn bare(column: &str) -> String {
    let is_bare = !column.is_empty() && column.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if is_bare { column.to_owned() } else { format!("{column:?}") }
}

/// A word of a shell, in quotes where it has letters that a shell reads otherwise.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-=,./:@%+".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_has_a_flag_is_that_flag_on_a_command_line() {
        for (key, recipe, flags) in [
            ("rename", "`data.rename`", "`--rename COLUMN=KEY`"),
            ("ignore", "`data.ignore`", "a recipe's `data.ignore`"),
            ("chat_template", "`data.chat_template`", "`--chat-template`"),
            ("train_on = \"all\"", "`data.train_on = \"all\"`", "a recipe's `data.train_on = \"all\"`"),
        ] {
            assert_eq!((Way::Recipe.key(key), Way::Flags.key(key)), (recipe.into(), flags.into()));
        }
    }

    #[test]
    fn columns_are_quoted_as_where_they_are_written() {
        for (pairs, recipe, flags) in [
            (vec![("q", "prompt")], "`data.rename = { q = \"prompt\" }`", "`--rename q=prompt`"),
            (
                vec![("q", "prompt"), ("a", "completion")],
                "`data.rename = { q = \"prompt\", a = \"completion\" }`",
                "`--rename q=prompt --rename a=completion`",
            ),
            (vec![("a b", "prompt")], "`data.rename = { \"a b\" = \"prompt\" }`", "`--rename 'a b=prompt'`"),
            (vec![("it's", "prompt")], "`data.rename = { \"it's\" = \"prompt\" }`", r"`--rename 'it'\''s=prompt'`"),
        ] {
            assert_eq!((Way::Recipe.rename(pairs.clone()), Way::Flags.rename(pairs)), (recipe.into(), flags.into()));
        }
        assert_eq!(Way::Flags.chat("q", "a b"), "`--chat-columns 'user=q,assistant=a b'`");
        assert_eq!(Way::Flags.template_argument("x", true), r#"`--template-arguments='{"x": true}'`"#);
        assert_eq!(Way::Recipe.chat("q", "a"), "`data.chat = { user = \"q\", assistant = \"a\" }`");
    }
}
