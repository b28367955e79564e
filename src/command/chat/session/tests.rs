use clap::Parser;

use super::*;

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Typed {
    #[command(flatten)]
    arguments: Arguments,
}

fn session(words: &[&str]) -> Result<Session, Fault> {
    let typed = Typed::try_parse_from(std::iter::once(&"model").chain(words)).unwrap_or_else(|error| panic!("{error}"));
    Session::new(&typed.arguments)
}

/// What is asked, as roles and texts.
fn asked(session: &Session) -> Vec<(String, String)> {
    let Asked::Conversation(conversation) = session.asked() else { panic!("turns") };
    conversation.messages.iter().map(|turn| (turn.role.clone(), turn.text().to_owned())).collect()
}

fn turns(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn turns_are_kept_chosen_and_taken_back() {
    let mut session = session(&["--system", "Be brief."]).expect("a session");
    assert_eq!(session.take("  hello \n"), Ok(Next::Answer));
    session.answered(vec!["hi".into(), "good day".into()]);
    assert_eq!(session.take("/keep 2"), Ok(Next::Nothing));
    assert_eq!(session.take("//etc is a folder"), Ok(Next::Answer));
    let before = [("system", "Be brief."), ("user", "hello"), ("assistant", "good day")];
    let with = |more: &[(&str, &str)]| turns(&[&before[..], more].concat());
    assert_eq!(asked(&session), with(&[("user", "/etc is a folder")]));
    session.answered(vec!["yes".into()]);
    let seed = session.settings(9).seed;
    assert_eq!(session.take("/retry"), Ok(Next::Answer));
    assert_eq!(asked(&session), with(&[("user", "/etc is a folder")]));
    session.answered(vec!["no".into()]);
    assert_ne!(session.settings(9).seed, seed, "an answer anew is another one");
    session.take("/undo").expect("a command");
    assert_eq!(asked(&session), with(&[]));
    session.take("/system").expect("a command");
    session.take("/clear").expect("a command");
    assert_eq!(asked(&session), turns(&[]));
    assert!(session.take("/retry").is_err() && session.take("/keep 1").is_err());
    assert_eq!((session.take(" "), session.take("/quit")), (Ok(Next::Nothing), Ok(Next::End)));
}

#[test]
fn settings_are_those_of_the_command_line_and_of_commands() {
    let mut session = session(&["--temperature", "0.5", "--n", "2", "--max-tokens", "7"]).expect("a session");
    assert_eq!((session.settings(100).sampler.temperature, session.n, session.settings(100).max_tokens), (0.5, 2, 7));
    assert_eq!(session.settings(3).max_tokens, 3, "no more than there is room for");
    for (line, of) in [("/temperature 1.5", 1.5), ("/T 0", 0.0), ("/temp 2", 2.0)] {
        session.take(line).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(session.settings(9).sampler.temperature, of);
    }
    assert_eq!(session.two_temperatures(9), None);
    session.take("/intent chat 0.9 0.4").expect("a command");
    let drawn = session.two_temperatures(100).expect("two of them");
    assert_eq!((drawn.intent.sampler.temperature, drawn.response.sampler.temperature), (0.9, 0.4));
    let Ok(Next::Say(words)) = session.take("/settings") else { panic!("words") };
    assert!(words.contains("intents at 0.9, responses at 0.4, n 2"), "{words}");
    session.take("/intent off").expect("a command");
    assert_eq!(session.two_temperatures(9), None);
}

#[test]
fn what_cannot_be_meant_is_told_and_changes_nothing() {
    let mut session = session(&[]).expect("a session");
    for (line, expected) in [
        ("/temprature 1", "did you mean `/temperature`?"),
        ("/what", "`/help` lists the commands"),
        ("/temperature hot", "a number, 0 or more, found `hot`"),
        ("/temperature -1", "a number, 0 or more"),
        ("/n 0", "from 1 to 32"),
        ("/n 33", "from 1 to 32"),
        ("/top_p 0", "above 0, up to 1"),
        ("/top_k -1", "a whole number, 0 or more"),
        ("/max_tokens 0", "1 or more"),
        ("/seed x", "a whole number"),
        ("/intent poem", "the templates are chat"),
        ("/intent chat 1", "/intent chat 0.73 0.6"),
        ("/keep 1", "there are none yet"),
        ("/save", "no file to save it to"),
    ] {
        let fault = session.take(line).expect_err(line);
        assert!(fault.to_string().contains(expected), "{line}: {fault}");
    }
    assert_eq!((session.n, session.settings(9).sampler.temperature), (1, 1.0));
    let refused = super::tests::session(&["--temperature", "-2"]).err().expect("refused").to_string();
    assert!(refused.contains("--temperature"), "{refused}");
}

#[test]
fn a_conversation_is_saved_as_a_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.jsonl");
    let mut session = session(&[]).expect("a session");
    for _ in 0..2 {
        session.take("hello").expect("a message");
        session.answered(vec!["hi".into()]);
        session.take(&format!("/save {}", file.display())).expect("saved");
        session.take("/clear").expect("a command");
    }
    let row =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"},{\"role\":\"assistant\",\"content\":\"hi\"}]}\n";
    assert_eq!(fs_err::read_to_string(&file).expect("the file"), row.repeat(2));
}
